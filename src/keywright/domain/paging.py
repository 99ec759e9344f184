"""Owns which part of a list is asked for, where parts are counted from the list's beginning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit` items from `offset` on."""

    limit: int = 1000
    offset: int = 0
