"""Owns the page `state` beside a replica: what a reader of the files judges time by that is no Python (gateways/lua).

Three slots of 64 bytes, big-endian, each under a checksum of its own and written in one piece by the process that
follows; docs/reference/replica-format.md is its description. Times are in milliseconds of `Clock.elapsed`, which means
nothing after a start of the machine: so each slot names the start that it is of, and no reader guesses beyond that.

The notes of freshness.py, origin_clock.py and lease.py stay what Python goes by, also over a start of the machine, and
for versions that know no page. Where such a version has kept the replica since, the slot of the lease doesn't fit the
note beside it any more, and its reader asks the edge.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

FILE = "state"
SLOT_BYTES = 64
NONE = -(2**63)
_SLOT = struct.Struct(">8s16s4q4x")
_CHECK = struct.Struct(">I")


class Slot(Enum):
    """Which part of the page, and the mark that it begins with; another layout gets another mark."""

    IN_STEP = b"in-step1"
    CLOCK = b"clock--1"
    LEASE = b"lease--1"

    @property
    def offset(self) -> int:
        return list(Slot).index(self) * SLOT_BYTES


@dataclass(frozen=True, slots=True)
class State:
    """What the page says of this start of the machine. A part that is None is not known: its reader asks the edge.

    `in_step_at`, `origin_start`, `origin_least` and `until` are milliseconds, NONE where there is no such thing:
    `origin_start` is the origin's time of day at the elapsed time 0, `origin_least` what it is no earlier than.
    """

    in_step_at: int | None = None
    clock: tuple[int, int] | None = None
    lease: tuple[int, int] | None = None
    """Until when anything may be answered, and for how long the replica may be out of step."""


class StatePage:
    """The page of one replica. Without a start of the machine to name (`boot_id`) nothing is written."""

    def __init__(self, path: Path, boot_id: str | None) -> None:
        self._path = path
        self._boot = None if boot_id is None else pack_boot(boot_id)

    @classmethod
    def beside(cls, note: Path, boot_id: str | None) -> StatePage:
        """The page of the replica that a note is of."""
        return cls(note.with_name(FILE), boot_id)

    def put_in_step(self, at: float) -> None:
        self._put(Slot.IN_STEP, math.floor(at * 1000))

    def put_clock(self, start: float | None, least: float | None) -> None:
        """Both None: the origin's clock is this machine's. In milliseconds."""
        self._put(Slot.CLOCK, _or_none(start), _or_none(least))

    def put_lease(self, until: float | None, seconds: float | None, note: Path) -> None:
        """`until` None: for ever. `note` is what says so to Python, and was written before."""
        until_ms = None if until is None else until * 1000
        seconds_ms = None if seconds is None else seconds * 1000
        self._put(Slot.LEASE, _or_none(until_ms), _or_none(seconds_ms), *written_at(note))

    def read(self, note: Path | None = None) -> State:
        """What is known by now. `note` is the lease's: its slot counts only as long as that is the same."""
        try:
            page = self._path.read_bytes()
        except OSError:
            return State()
        in_step, clock, lease = (self._parse(page, slot) for slot in Slot)
        if lease is not None and lease[2:] != written_at(note or self._path.with_name("lease.json")):
            lease = None
        return State(
            None if in_step is None else in_step[0],
            None if clock is None else (clock[0], clock[1]),
            None if lease is None else (lease[0], lease[1]),
        )

    def _put(self, slot: Slot, *values: int) -> None:
        """Raises OSError."""
        if self._boot is None:
            return
        body = _SLOT.pack(slot.value, self._boot, *values, *[0] * (4 - len(values)))
        page = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # No fsync: after a power cut it is of another start.
            os.pwrite(page, body + _CHECK.pack(crc32(body)), slot.offset)
        finally:
            os.close(page)

    def _parse(self, page: bytes, slot: Slot) -> tuple[int, ...] | None:
        kept = page[slot.offset : slot.offset + SLOT_BYTES]
        body, check = kept[: _SLOT.size], kept[_SLOT.size :]
        if len(kept) != SLOT_BYTES or check != _CHECK.pack(crc32(body)):
            return None
        mark, boot, *values = _SLOT.unpack(body)
        return tuple(values) if mark == slot.value and boot == self._boot else None


def pack_boot(boot_id: str) -> bytes:
    """A start's id in 16 bytes: those of the kernel's UUID; the beginning of the text where it is none."""
    with contextlib.suppress(ValueError):
        return UUID(boot_id).bytes
    return boot_id.encode()[:16].ljust(16, b"\0")


def written_at(note: Path) -> tuple[int, int]:
    """When a note was written, in seconds and nanoseconds; zeros where there is none."""
    try:
        return divmod(note.stat().st_mtime_ns, 1_000_000_000)
    except FileNotFoundError:
        return 0, 0


def _or_none(millis: float | None) -> int:
    return NONE if millis is None or not math.isfinite(millis) else math.floor(millis)
