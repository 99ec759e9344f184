"""How a portal looks: how much room its logo takes."""

from __future__ import annotations

import pytest

from keywright.origin.branding.rules import Branding

HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
"""What comes before the width and the height of a PNG."""


@pytest.mark.parametrize(
    ("width", "height", "shown"), [(64, 64, 32), (1, 1, 32), (200, 100, 64), (100, 200, 16), (5000, 10, 160)]
)
def test_a_page_leaves_as_much_room_as_the_logo_takes(width: int, height: int, shown: int) -> None:
    assert Branding(logo=HEAD + width.to_bytes(4) + height.to_bytes(4) + bytes(9)).logo_width(32) == shown


@pytest.mark.parametrize("logo", [None, b"", HEAD + bytes(4), HEAD + bytes(17), b"\xff\xd8\xff" + bytes(99)])
def test_a_picture_that_tells_no_size_is_taken_for_a_square(logo: bytes | None) -> None:
    assert Branding(logo=logo).logo_width(32) == 32
