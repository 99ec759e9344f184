"""Owns the directory in which batches of usage wait until an origin has taken them: one file each, under its name.

All processes of an edge write there, each the batches of its own epoch, and one of them sends what is there. A file is
whole and on the disk, or isn't there. Its name says what it is, so that many files cost a look at their names: epoch,
first number, number, the moment from which on it counts, SHA-256; `.batch`, or `.lost` where it stands for batches that
are gone. What is not what it was when it was written is set aside, and said to be lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keywright.protocol import usage
from keywright.protocol.usage import Loss, LossReason, UsageBatch, UsageError
from keywright.runtime import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StandIn = Callable[[str, int, int, tuple[Loss, ...]], UsageBatch]
    """Makes what stands for batches that are lost: their epoch, the first and the last number, and what was lost."""

_log = logging.getLogger(__name__)

USAGE_DIRECTORY = "usage"
"""In the data directory."""
_SET_ASIDE = "set-aside"
MOST_SET_ASIDE = 100
_FILE = re.compile(r"([0-9a-f]{32})-([0-9]{12,13})-([0-9]{12,13})-([0-9]{14,15})-([0-9a-f]{64})\.(batch|lost)")
_LEFT_BY_KILL = re.compile(r"\..*\.part")
_LEFT_SECONDS = 3600.0
_LOWEST_FILL = 0.9
"""Of what there may be so much is left when room was made."""


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch that waits. `since` is the moment (milliseconds since the epoch) up to which all before it is sealed."""

    path: Path
    epoch: str
    first_number: int
    number: int
    since: int
    digest: str
    is_lost: bool
    size: int

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> SpooledBatch | None:
        """None for another file, or one that is gone by now."""
        found = _FILE.fullmatch(entry.name)
        if found is None:
            return None
        epoch, first, number, since, digest, kind = found.groups()
        try:
            size = entry.stat().st_size
        except FileNotFoundError:
            return None
        return cls(Path(entry.path), epoch, int(first), int(number), int(since), digest, kind == "lost", size)


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What is waiting: `oldest_at` in seconds since the epoch, None where there is nothing."""

    files: int
    size: int
    oldest_at: float | None


class Spool:
    """A directory of batches, for any process of the edge."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self.most_bytes = most_bytes

    def create(self) -> None:
        """Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, batch: UsageBatch, since: int) -> SpooledBatch:
        """Have the batch on the disk. Raises OSError: then it isn't there, and the number is free."""
        content = usage.encode(batch)
        digest = usage.digest_of(content).hex()
        kind = "lost" if batch.is_stand_in else "batch"
        name = f"{batch.epoch}-{batch.first_number:012d}-{batch.number:012d}-{since:014d}-{digest}.{kind}"
        path = self.directory / name
        try:
            atomic_file.write(path, content)
        except OSError:
            # The file may have got its name, and then the directory could not be synced.
            if not path.exists():
                raise
        return SpooledBatch(
            path, batch.epoch, batch.first_number, batch.number, since, digest, kind == "lost", len(content)
        )

    def list_waiting(self) -> list[SpooledBatch]:
        """In the order in which it is sent: by epoch the numbers, first the epoch that has waited longest.

        Raises OSError.
        """
        found = self._scan()
        oldest: dict[str, int] = {}
        for one in found:
            oldest[one.epoch] = min(one.since, oldest.get(one.epoch, one.since))
        # A batch before what stands for it: of both there is one too many, and it is the batch that was counted.
        return sorted(found, key=lambda one: (oldest[one.epoch], one.epoch, one.first_number, one.number, one.is_lost))

    def read(self, waiting: SpooledBatch) -> bytes | None:
        """The content; None if it is gone. Raises UsageError for what is not what its name says, OSError."""
        try:
            content = waiting.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            content = b""
        if usage.digest_of(content).hex() != waiting.digest:
            raise UsageError("it is not what it was when it was written")
        batch = usage.decode(content)
        if (batch.epoch, batch.first_number, batch.number) != (waiting.epoch, waiting.first_number, waiting.number):
            raise UsageError("its name is another batch's")
        return content

    def remove(self, waiting: SpooledBatch) -> None:
        waiting.path.unlink(missing_ok=True)

    def set_aside(self, waiting: SpooledBatch, why: str) -> None:
        """Have somebody look at a file that can't be sent, if there are not too many already. Raises OSError."""
        _log.error("usage is lost: %s: %s", waiting.path.name, why)
        aside = self.directory / _SET_ASIDE
        aside.mkdir(mode=0o700, exist_ok=True)
        if len(os.listdir(aside)) >= MOST_SET_ASIDE:
            self.remove(waiting)
        else:
            waiting.path.replace(aside / waiting.path.name)

    def make_room(self, stand_in: StandIn) -> int:
        """Where more waits than there may be, take the oldest away, and leave what says so: how many were dropped.

        Of several processes one does it. Raises OSError.
        """
        with _alone(self.directory / "room.lock") as is_alone:
            return self._make_room(stand_in) if is_alone else 0

    def status(self) -> SpoolStatus:
        """Raises OSError."""
        found = self._scan()
        oldest = min((one.since / 1000 for one in found), default=None)
        return SpoolStatus(len(found), sum(one.size for one in found), oldest)

    def clean(self) -> None:
        """Take away what killed processes have left half written. Raises OSError."""
        for entry in list(os.scandir(self.directory)):
            if _LEFT_BY_KILL.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    # Not one that somebody is writing.
                    if entry.stat().st_mtime < time.time() - _LEFT_SECONDS:
                        os.unlink(entry.path)

    def _make_room(self, stand_in: StandIn) -> int:
        found = self._scan()
        size = sum(one.size for one in found)
        if size <= self.most_bytes:
            return 0
        dropped = 0
        lost: dict[str, list[SpooledBatch]] = {}
        for one in found:
            if one.is_lost:
                lost.setdefault(one.epoch, []).append(one)
        for one in sorted((one for one in found if not one.is_lost), key=lambda one: (one.since, one.number)):
            if size <= self.most_bytes * _LOWEST_FILL:
                break
            loss = self._loss_of(one, LossReason.SPOOL_FULL)
            before = next((each for each in lost.get(one.epoch, []) if each.number == one.number - 1), None)
            standing = self._put_loss(one, loss, before, stand_in)
            self.remove(one)
            lost.setdefault(one.epoch, []).append(standing)
            if before is not None and standing.first_number == before.first_number:
                lost[one.epoch].remove(before)
                self.remove(before)
                size -= before.size
            size += standing.size - one.size
            dropped += 1
        return dropped

    def _scan(self) -> list[SpooledBatch]:
        with os.scandir(self.directory) as entries:
            return [one for one in map(SpooledBatch.of, entries) if one is not None]

    def _loss_of(self, waiting: SpooledBatch, reason: LossReason) -> Loss:
        total: int | None = None
        until = waiting.since
        with contextlib.suppress(OSError, UsageError):
            batch = usage.decode(waiting.path.read_bytes())
            total, until = sum(row.total for row in batch.rows), batch.until
        return Loss(
            waiting.epoch, waiting.first_number, waiting.number, total, min(waiting.since, until), until, reason
        )

    def _put_loss(
        self, waiting: SpooledBatch, loss: Loss, before: SpooledBatch | None, stand_in: StandIn
    ) -> SpooledBatch:
        """What says that a batch is lost, together with those before it where there is room for both."""
        if before is not None:
            with contextlib.suppress(OSError, UsageError):
                earlier = usage.decode(before.path.read_bytes())
                losses = (*earlier.losses, loss)
                if len(losses) <= usage.MAX_LOSSES:
                    return self.put(
                        stand_in(waiting.epoch, before.first_number, waiting.number, losses),
                        min(before.since, loss.since),
                    )
        return self.put(stand_in(waiting.epoch, waiting.first_number, waiting.number, (loss,)), waiting.since)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process is within."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
