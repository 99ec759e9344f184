"""Owns when a worker that died is started anew: soon, then after growing pauses, and at last not any more."""

from __future__ import annotations

MAX_DEATHS = 6
"""In a row. What ends a worker that often at its start is mended by nobody but a person."""
SETTLED_SECONDS = 60.0
"""A worker that lived so long begins a new row."""
FIRST_PAUSE_SECONDS = 0.1
PAUSE_FACTOR = 2.5


class Restarts:
    """The deaths of each worker, by its number, and what follows from them. Pure: the caller brings the time."""

    def __init__(self) -> None:
        self._deaths: dict[int, int] = {}

    def note_death(self, worker: int, lived_seconds: float) -> int:
        """How many times in a row it has died now."""
        before = 0 if lived_seconds >= SETTLED_SECONDS else self._deaths.get(worker, 0)
        self._deaths[worker] = before + 1
        return before + 1


def pause_seconds(deaths: int) -> float | None:
    """Before the worker is started anew, after so many deaths in a row; None when it isn't any more."""
    return None if deaths >= MAX_DEATHS else FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** (deaths - 1)
