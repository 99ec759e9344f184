"""Owns the third state of a field in an update: beside a value and None (empty it) there is "leave it as it is"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Unset:
    """The value of a field that an update leaves as it is (None would empty it)."""


UNSET = Unset()


def updated(value: Any, kept: Any, empty: Any = None) -> Any:
    """The new value of a field: `kept` where `value` is UNSET, `empty` where it is None."""
    if isinstance(value, Unset):
        return kept
    return empty if value is None else value
