"""Owns what a setting is, and the kinds of values that settings have: how each is read from text, and what it must be.

A kind's `parse` raises ValueError whose text goes on after the setting's name: "must be a whole number from 1 to 5".
It quotes what was given only where that can't be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from keywright.domain.keyformat import Secret

T_co = TypeVar("T_co", covariant=True)
_SHOWN = 40
"""Characters of a wrong value that are repeated."""


class Part(StrEnum):
    """A part of the product that reads settings."""

    SERVE = "serve"
    EDGE = "edge"
    CLI = "command line"
    GATEWAY = "gateways"
    TESTS = "tests"


BOTH = frozenset({Part.SERVE, Part.EDGE})


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What a value must be, in `words`, and how it is read. With `takes_blank` an empty text is a value, too."""

    words: str
    parse: Callable[[str], T_co]
    takes_blank: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class OldName:
    """What a setting was called. `to_new` gives the text of the new variable; ValueError says what this one must be."""

    name: str
    to_new: Callable[[str], str] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T_co]):
    """One KEYWRIGHT_* variable. `help` and `shown_default` are Markdown, as docs/reference/settings.md has them.

    `default` is what the reader gives where nothing is set; where that is None and `shown_default` tells of more, the
    settings of the plane work it out.
    """

    name: str
    kind: Kind[T_co]
    default: T_co
    help: str
    shown_default: str = ""
    flag: str = ""
    old_names: tuple[OldName, ...] = ()
    parts: frozenset[Part] = BOTH

    @property
    def label(self) -> str:
        """How an error names it."""
        return f"{self.name} ({self.flag})" if self.flag else self.name

    @property
    def row(self) -> str:
        """Its row in the reference."""
        flag = f"`{self.flag}`" if self.flag else ""
        return re.sub(r"\|  +", "| ", f"| `{self.name}` | {flag} | {self.shown_default} | {self.help} |")


def whole(least: int, most: int) -> Kind[int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}, not {text[:_SHOWN]!r}")
        return int(text)

    return Kind(f"a whole number from {least} to {most}", parse)


def decimal(least: float, most: float) -> Kind[float]:
    def parse(text: str) -> float:
        if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", text) is None or not least <= float(text) <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}, not {text[:_SHOWN]!r}")
        return float(text)

    return Kind(f"a number from {least:g} to {most:g}", parse)


def choice(*choices: str) -> Kind[str]:
    """One of a few words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text[:_SHOWN]!r}")
        return text.lower()

    return Kind(f"one of {', '.join(choices)}", parse)


def _switch() -> Kind[bool]:
    parse = choice("true", "false", "1", "0", "yes", "no").parse
    return Kind("true or false", lambda text: parse(text) in {"true", "1", "yes"})


def checked(words: str, check: Callable[[str], None]) -> Kind[str]:
    """A text that `check` has nothing against."""

    def parse(text: str) -> str:
        check(text)
        return text

    return Kind(words, parse)


def matching(pattern: str, words: str, *, shown: int = _SHOWN) -> Kind[str]:
    """A text that a pattern matches as a whole. With `shown` 0 a wrong one is not repeated."""

    def check(text: str) -> None:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must be {words}" + (f", not {text[:shown]!r}" if shown else ""))

    return checked(words, check)


def listed(one: Kind[str]) -> Kind[tuple[str, ...]]:
    """Several of a kind with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        parts = (part.strip() for part in text.split(","))
        return tuple(one.parse(part) for part in parts if part)

    return Kind(f"{one.words}; several with commas between", parse)


def _parse_path(text: str) -> Path:
    return Path(text).expanduser().absolute()


TEXT: Kind[str] = Kind("text", str)
BLANK_OR_TEXT: Kind[str] = Kind("text, or empty", str, takes_blank=True)
SECRET: Kind[Secret] = Kind("a secret", Secret, is_secret=True)
PATH: Kind[Path] = Kind("a path", _parse_path)
SWITCH: Kind[bool] = _switch()
BROKER_NAME: Kind[str] = matching(r"[A-Za-z0-9_-]{1,32}", "1 to 32 of A-Z, a-z, 0-9, _ and -")
"""A name such as a NATS broker has for what is in it."""
