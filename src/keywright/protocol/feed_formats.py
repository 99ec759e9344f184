"""Owns the formats of the feed that a reader can name, and what the record is in each of them. Pure.

A reader of the first release names none and is one of format 2: it would refuse all changes for the sake of one row
that it does not know, so it is sent only what it can judge. Its part of the record is another one, so its scope has
another name, and a replica that was filled under one format is filled anew under another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keywright.protocol.changes import FORMAT_VERSION, Change, ConsumerPut, KeyPut, PlanPut, in_format_2

HEADER = "keywright-feed-format"
"""In which a reader over HTTP names the newest format that it reads."""
OLDEST, NEWEST = 2, FORMAT_VERSION
FORMATS = tuple(range(OLDEST, NEWEST + 1))
_DIGITS = 6


def format_named(values: Sequence[str]) -> int:
    """The format to write for who names this, in so many headers: none is the oldest, a newer one is the newest.

    Raises ValueError for what is no format, or one of before the oldest.
    """
    if not values:
        return OLDEST
    text = values[0]
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS and not text.startswith("0")
    if len(values) > 1 or not is_number or int(text) < OLDEST:
        raise ValueError(f"a format of the feed is a number from {OLDEST} on")
    return min(int(text), NEWEST)


def scope_in(scope: str, feed_format: int) -> str:
    """The name of what a reader of a format sees of a scope."""
    return scope if feed_format == OLDEST else f"{scope}/{feed_format}"


def is_same_record(one: str, other: str) -> bool:
    """Whether two records (deployment and scope) show the same, but for the format that they are written in."""
    return _without_format(one) == _without_format(other)


def change_in(change: Change, feed_format: int) -> Change:
    """The change as a reader of a format is sent it. Raises NotInFormat2 where only a snapshot can tell it."""
    return in_format_2(change) if feed_format == OLDEST else change


def puts_in(puts: Iterable[Change], feed_format: int) -> list[Change]:
    """A page of a snapshot as a reader of a format is sent it: without what it can't judge."""
    if feed_format != OLDEST:
        return list(puts)
    return [in_format_2(put) for put in puts if not _is_beyond_format_2(put)]


def _is_beyond_format_2(put: Change) -> bool:
    return isinstance(put, PlanPut) or (isinstance(put, KeyPut | ConsumerPut) and put.powers is not None)


def _without_format(record: str) -> str:
    deployment_id, _, scope = record.partition("/")
    return f"{deployment_id}/{scope.partition('/')[0]}"
