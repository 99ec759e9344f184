"""Owns how long to wait before something that failed is tried again. The one back-off of both planes."""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""A random number between two others, as `random.uniform` gives it."""


class Backoff:
    """Pauses that double from the first to the longest until `reset`, each cut short at random.

    At random, so that many processes don't ask what is back all at once, nor try for one lock in step. Of each pause
    at least the share `least` is waited.
    """

    def __init__(self, first_seconds: float, longest_seconds: float, uniform: Uniform, *, least: float = 0.5) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._uniform = uniform
        self._least = least
        self._pause = 0.0

    def next_pause(self) -> float:
        """Seconds to wait after another failure."""
        self._pause = min(max(self._pause * 2, self._first_seconds), self._longest_seconds)
        return self._pause * self._uniform(self._least, 1.0)

    def spread(self, seconds: float) -> float:
        """A pause of about so many seconds, whatever came before: at least half of them."""
        return seconds * self._uniform(0.5, 1.0)

    def reset(self) -> None:
        """Say that it went well: the next failure is a first one."""
        self._pause = 0.0
