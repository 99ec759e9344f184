"""Whatever colour somebody likes, what is made of it can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.origin.branding.contrast import DARK_PAPER, LIGHT_PAPER, READABLE, contrast, palette_of


@pytest.mark.parametrize(("one", "other", "ratio"), [("#000000", "#ffffff", 21), ("#777777", "#ffffff", 4.48)])
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == contrast(other, one) == pytest.approx(ratio, abs=0.01)


@given(st.integers(0, 0xFFFFFF))
def test_every_palette_can_be_read(number: int) -> None:
    palette = palette_of(f"#{number:06x}")
    assert contrast(palette.light, LIGHT_PAPER) >= READABLE
    assert contrast(palette.dark, DARK_PAPER) >= READABLE
    assert contrast(palette.button, "#ffffff") >= READABLE
    assert contrast(palette.button_hover, "#ffffff") >= READABLE


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    assert palette_of("#0f5c6e").light == "#0f5c6e"
    assert palette_of("#72c7d8").dark == "#72c7d8"
