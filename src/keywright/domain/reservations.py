"""Owns what a reservation is: units of quotas that are taken before it is known how many are used, and settled then."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reservation(NamedTuple):
    """Units that a good answer took of each of these quotas.

    `id` is what they go by on their machine; `expires_at` is when they count as used, milliseconds since the epoch.
    """

    id: bytes
    consumer_number: int
    quotas: tuple[str, ...]
    units: int
    expires_at: int


class Outcome(StrEnum):
    """What became of a reservation."""

    SETTLED = "SETTLED"
    LAPSED = "LAPSED"
    """All of it counts as used, at one of its quotas at least: its time was over, or what it was lent of has ended."""


class Settlement(NamedTuple):
    """`taken` is how much of each quota was, of `reserved`. Less than the cost where there was not more."""

    code: Outcome
    taken: int
    reserved: int
