"""Owns the fixtures that pytest finds where Keywright is installed. All else is loaded when a test asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keywright.policy.testing import FakeKeys


@pytest.fixture
def keywright_keys() -> Iterator[FakeKeys]:
    """Keys of this test alone, in place of every policy's source."""
    from keywright.policy.testing import fake_keys

    with fake_keys() as keys:
        yield keys
