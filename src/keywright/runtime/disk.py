"""Owns how much room a service has on its disks, and a reserve of it for writes that must not wait for more.

The reserve is a file of nothing in each place. It is given up when the disk is nearly full and something must be
written all the same, and made anew when there is room again. Several processes may keep one together.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from keywright.runtime import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)

MIB = 1024 * 1024
FILE = "disk-reserve"
LOOK_SECONDS = 2.0
LARGEST_SHARE = 8
"""Of a small disk the reserve takes this part at most."""


class Disk:
    """The disks that some directories are on. `reserve_bytes` of each are kept back; 0 keeps nothing, and never is low.

    `refused` counts, by what was to be written, the writes that found no room.
    """

    def __init__(self, directories: Iterable[Path], reserve_bytes: int) -> None:
        """The directories are there."""
        self._places = {one.stat().st_dev: _Place(one, reserve_bytes) for one in directories}
        self.refused: Counter[str] = Counter()
        self._has_warned = False

    @property
    def free_bytes(self) -> int:
        """On the fullest of the disks, the reserve not counted."""
        return min(place.free_bytes for place in self._places.values())

    @property
    def held_bytes(self) -> int:
        """How large the reserve is now, on the disk where it is smallest."""
        return min(place.held_bytes for place in self._places.values())

    @property
    def is_low(self) -> bool:
        """Whether only what must be written may be: beside the reserve, less than half as much is free."""
        return any(place.is_low for place in self._places.values())

    def give_up(self) -> bool:
        """Make room of what was reserved; whether there was anything."""
        is_given = sum(place.give_up() for place in self._places.values()) > 0
        if is_given and not self._has_warned:
            self._has_warned = True
            _log.error("the disk is full: the reserve was given up so that keys can still be revoked")
        return is_given

    def restore(self) -> None:
        """Make the reserve, or make it anew, where there is room for it."""
        if not self.is_low:
            self._has_warned = False
        for place in self._places.values():
            place.restore()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the reserve until `stop` is set. It stays, for the next start."""
        while not stop.is_set():
            await asyncio.to_thread(self.restore)
            await tasks.pause(stop, LOOK_SECONDS)


def is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class _Place:
    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        self._directory = directory
        self._path = directory / FILE
        found = os.statvfs(directory)
        self._size = min(reserve_bytes, found.f_blocks * found.f_frsize // LARGEST_SHARE)
        self._has_warned = False

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize

    @property
    def held_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    @property
    def is_low(self) -> bool:
        # What was given up is not free for everybody.
        return self.free_bytes + self.held_bytes < self._size + self._size // 2

    def give_up(self) -> bool:
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def restore(self) -> None:
        if not self._size:
            self.give_up()
            return
        # With more left than makes a disk low, else it would be given up at once.
        if self.held_bytes == self._size or self.free_bytes < 2 * self._size:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, min(self.held_bytes, self._size))
                _allocate(descriptor, self._size)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.give_up()
            if not self._has_warned:
                self._has_warned = True
                _log.warning("no room can be reserved in %s: %s", self._directory, error.strerror)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    piece = bytes(1024 * 1024)
    for begin in range(0, size, len(piece)):
        os.pwrite(descriptor, piece[: size - begin], begin)
