"""How a portal looks: how much room its logo takes."""

from __future__ import annotations

import base64

import pytest

from keywright.origin.service.branding import Branding

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize(
    ("width", "height", "shown"), [(64, 64, 32), (1, 1, 32), (200, 100, 64), (100, 200, 16), (5000, 10, 160)]
)
def test_a_page_leaves_as_much_room_as_the_logo_takes(width: int, height: int, shown: int) -> None:
    head = PNG[:16] + width.to_bytes(4) + height.to_bytes(4)
    assert Branding(logo=head + PNG[24:]).logo_width(32) == shown


@pytest.mark.parametrize("logo", [None, b"", PNG[:20], PNG[:16] + bytes(8) + PNG[24:], b"\xff\xd8\xff" + bytes(99)])
def test_a_picture_that_tells_no_size_is_taken_for_a_square(logo: bytes | None) -> None:
    assert Branding(logo=logo).logo_width(32) == 32
