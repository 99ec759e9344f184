"""Owns which names of buckets stand in the metrics: the first so many of a start, the same ones for all its workers.

Each value of a label is a time series of its own, which Prometheus keeps for as long as it keeps anything; whoever may
make buckets must not be able to fill it. What comes later is told together, as OTHER. A name that was told by itself
goes on being so, and one that was not never is, until the next start: else counts would fall.
"""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from keywright.runtime import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)

MOST_NAMES = 200
OTHER = "_other"
"""No bucket has this name: none begins with an underscore."""
_decode = msgspec.json.Decoder(list[str]).decode


class SharedNames:
    """In `directory`, which the workers of a start have together; None where there is but one. From one thread at a
    time.

    Where its files fail this worker chooses by itself, and says so once.
    """

    def __init__(self, directory: Path | None = None, most: int = MOST_NAMES) -> None:
        self._directory = directory
        self._most = most
        self._told: set[str] = set()
        self._has_failed = False

    def choose(self, names: Iterable[str]) -> set[str]:
        """Which of these are told by themselves."""
        names = set(names)
        unknown = sorted(names - self._told)
        if unknown and len(self._told) < self._most:
            try:
                self._take(unknown)
            except (OSError, msgspec.DecodeError) as error:
                self._told.update(unknown[: self._most - len(self._told)])
                if not self._has_failed:
                    self._has_failed = True
                    _log.warning("workers may tell of different buckets: can't use %s: %s", self._directory, error)
        return names & self._told

    def _take(self, unknown: list[str]) -> None:
        """Take in what other workers tell, and of these names what there is room for."""
        if self._directory is None:
            self._told.update(unknown[: self._most - len(self._told)])
            return
        path = self._directory / "names"
        lock = os.open(self._directory / "names.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                kept = _decode(path.read_bytes())
            except FileNotFoundError:
                kept = []
            added = [name for name in unknown if name not in kept][: max(self._most - len(kept), 0)]
            if added:
                atomic_file.write(path, msgspec.json.encode([*kept, *added]), is_durable=False)
            self._told.update(kept, added)
        finally:
            os.close(lock)
