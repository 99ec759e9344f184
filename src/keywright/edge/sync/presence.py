"""Owns knowing which process on a replica is the last one: it says goodbye to the origin for all of them.

Each holds a lock on one file, shared, while it may answer; whoever ends lets go of it and tries to have it alone. The
kernel lets go for those who die, and the last of them then says nothing: that edge is waited for until it is retired.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_NAME = "answering.lock"
TRY_SECONDS = 0.05
ENTER_SECONDS = 5.0


class Presence:
    """One process's part."""

    def __init__(self, replica_dir: Path) -> None:
        self._path = replica_dir / FILE_NAME
        self._lock: int | None = None

    async def enter(self) -> None:
        """Be present. A process that is saying goodbye is waited for: what this one says must come after that."""
        with contextlib.suppress(OSError):
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(int(ENTER_SECONDS / TRY_SECONDS)):
            if self._try(fcntl.LOCK_SH):
                return
            await asyncio.sleep(TRY_SECONDS)

    @contextlib.contextmanager
    def leave(self) -> Iterator[bool]:
        """Be absent; yields whether nobody else is present, and none comes in before that was told."""
        self._try(fcntl.LOCK_UN)
        try:
            yield self._lock is not None and self._try(fcntl.LOCK_EX)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _try(self, how: int) -> bool:
        """True, too, where there is no lock to be had at all."""
        if self._lock is None:
            return True
        try:
            fcntl.flock(self._lock, how | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def held_for_reading(replica_dir: Path) -> Iterator[None]:
    """Be present as a mere reader of somebody else's replica, as far as its files let us."""
    try:
        lock = os.open(replica_dir / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
