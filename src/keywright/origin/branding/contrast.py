"""Owns colours that can be read: from one colour that somebody likes, those that stand out enough on light and dark.

Contrast is that of WCAG 2 (relative luminance); 4.5 to 1 is what text needs.
"""

from __future__ import annotations

from dataclasses import dataclass

READABLE = 4.5
# The least bright and the least dark of the papers that our pages have (portal/static/pages.css: --tint).
LIGHT_PAPER = "#eff2f5"
DARK_PAPER = "#1b232b"
STEPS = 100

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Palette:
    """`light` and `dark` are for text on those papers, `button` is for white text on it."""

    light: str
    dark: str
    button: str
    button_hover: str


def palette_of(colour: str) -> Palette:
    """The nearest colours to `colour` (#rrggbb) that can be read."""
    light = _until_readable(colour, LIGHT_PAPER, towards=(0, 0, 0))
    dark = _until_readable(colour, DARK_PAPER, towards=(1, 1, 1))
    return Palette(light, dark, light, _to_hex(_mixed(_to_rgb(light), (0, 0, 0), 0.15)))


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white)."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _until_readable(colour: str, paper: str, towards: Rgb) -> str:
    start = _to_rgb(colour)
    for step in range(STEPS):
        candidate = _to_hex(_mixed(start, towards, step / STEPS))
        if contrast(candidate, paper) >= READABLE:
            return candidate
    return _to_hex(towards)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mixed(one: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def _to_rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _to_hex(parts: Rgb) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)
