"""Owns how a rate limit or a quota stands when a question was answered, as callers are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class LimitState(NamedTuple):
    """`remaining` of `limit` can be had at once, more than that in `reset_seconds` (0: never more).

    `window_seconds` is None where a limit has no such thing. `is_violated` says that the question did not fit;
    `retry_seconds` is when it would, None for never.
    """

    name: str
    limit: int
    window_seconds: int | None
    remaining: int
    reset_seconds: int
    is_violated: bool = False
    retry_seconds: int | None = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "windowSeconds": self.window_seconds,
            "remaining": self.remaining,
            "resetSeconds": self.reset_seconds,
        }


def violated(states: Sequence[LimitState]) -> list[str]:
    """The names of the limits that a question did not fit into."""
    return list(dict.fromkeys(state.name for state in states if state.is_violated))


def find_retry_seconds(states: Sequence[LimitState]) -> int | None:
    """When the question would fit into all of them, at least 1; None where it never does."""
    waits = [state.retry_seconds for state in states if state.is_violated]
    return None if None in waits else max([1, *(wait for wait in waits if wait is not None)])
