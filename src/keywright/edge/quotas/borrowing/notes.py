"""Owns what an edge writes down of what it was lent, for its next start: how far it may spend of each lease.

That is written before it is spent, off the way of requests, and is on the disk then (fsync). So whatever dies, an edge
that is back can say what it has spent at most. What processes have spent, a table in memory tells (table.py), as long
as the machine runs; only if that is gone, too, counts what may have been spent.

A start of the borrower has a log of its own, `7.log` of the seventh: lines of a checksum and a JSON array, of which the
last on a lease counts. A later start takes over what earlier ones left, and removes their logs; so an earlier one that
was stopped meanwhile, and writes on, does so in vain. `edge` is drawn once, and again if the origin finds that this
directory was set back: it tells this edge apart from whoever had it before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import threading
import zlib
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from keywright.runtime import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
NOTES_DIRECTORY = "leases"
"""In a replica's directory."""
DRAWN = "edge"
SPARE_LINES = 1000
"""A log is written anew when it has so many more lines than twice what counts."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A lease, by its number at the origin and its mark in the table: no more than `may_spend` was ever spent of it."""

    lease: int
    mark: int
    consumer_number: int
    quota: str
    returned: int
    may_spend: int
    overspent: int = 0


class Notes:
    """One start's. From one thread at a time, but for `close`. Everything here may raise OSError."""

    def __init__(self, directory: Path, edge: str, *, after: int = 0) -> None:
        """`edge` is the edge's own name for itself, as its reports have it. Counts as a start, later than `after`."""
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        drawn = directory / DRAWN
        if not drawn.exists():
            atomic_file.create(drawn, secrets.token_hex(16).encode())
        self.instance = hashlib.sha256(f"{edge}\n{drawn.read_text()}".encode()).hexdigest()[:32]
        """As whom it asks."""
        self.start = self._claim(after)
        self.place = ""
        """What was heard last of the ledger."""
        self._path = self._path_of(self.start)
        self._noted: dict[int, Noted] = {}
        self._deployment_id = ""
        self._lines = 0
        self._file = -1
        self._writing = threading.Lock()
        self._has_ended = False

    def read_earlier(self, deployment_id: str) -> list[Noted]:
        """What earlier starts left open of this deployment's."""
        left: dict[int, Noted] = {}
        for start in self._starts():
            if start < self.start:
                found = _read(self._path_of(start))
                # A log that was begun and not filled says nothing of those before it.
                if found.deployment_id:
                    if found.deployment_id != deployment_id:
                        left, self.place = {}, ""
                        continue
                    left |= found.noted
                    left = {lease: noted for lease, noted in left.items() if lease not in found.closed}
                    self.place = found.place or self.place
        return list(left.values())

    def take_over(self, deployment_id: str, left: Iterable[Noted]) -> None:
        """Have this start's log tell of these, and remove those of earlier starts."""
        self._deployment_id = deployment_id
        self._noted = {noted.lease: noted for noted in left}
        with self._writing:
            self._write_anew()
        for start in self._starts():
            if start < self.start:
                self._path_of(start).unlink(missing_ok=True)

    def write(self, noted: Iterable[Noted] = (), closed: Iterable[int] = (), place: str | None = None) -> None:
        """When this returns, it is on the disk. After an OSError it may be, or not."""
        lines = []
        for one in noted:
            self._noted[one.lease] = one
            lines.append(_line(astuple(one)))
        for lease in closed:
            if self._noted.pop(lease, None) is not None:
                lines.append(_line([lease]))
        if place is not None and place != self.place:
            self.place = place
            lines.append(_line(["at", place]))
        if not lines:
            return
        with self._writing:
            self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        if self._has_ended:
            raise OSError("this start has ended")
        if self._file < 0 or self._lines > 2 * len(self._noted) + SPARE_LINES:
            self._write_anew()
            return
        try:
            _write_all(self._file, b"".join(lines))
            os.fdatasync(self._file)
        except OSError:
            # It may end in half a line, behind which nothing is read.
            self._let_go()
            raise
        self._lines += len(lines)

    def forget(self) -> None:
        """Be another edge from the next start on: this directory was set back."""
        self.close()
        for start in self._starts():
            # Starts are counted on: the table goes by them.
            atomic_file.write(self._path_of(start), b"")
        (self._directory / DRAWN).unlink(missing_ok=True)

    def close(self) -> None:
        """Returns when what is being written is written; nothing more is."""
        with self._writing:
            self._has_ended = True
            self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _write_anew(self) -> None:
        self._let_go()
        rows: list[object] = [["of", self._deployment_id], ["at", self.place], *map(astuple, self._noted.values())]
        atomic_file.write(self._path, b"".join(map(_line, rows)))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._lines = len(rows)

    def _claim(self, after: int) -> int:
        start = max([after, *self._starts()]) + 1
        while not atomic_file.create(self._path_of(start), b""):
            start += 1
        return start

    def _starts(self) -> list[int]:
        names = (path.stem for path in self._directory.glob("*.log"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _path_of(self, start: int) -> Path:
        return self._directory / f"{start}.log"


@dataclass(frozen=True, slots=True)
class _Found:
    deployment_id: str
    place: str
    noted: Mapping[int, Noted]
    closed: frozenset[int]


def has_notes(directory: Path) -> bool:
    return any(directory.glob("*.log"))


def _read(path: Path) -> _Found:
    """Up to the first line that is not whole: what is behind it was not waited for by anybody."""
    deployment_id = place = ""
    noted: dict[int, Noted] = {}
    closed: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines(keepends=True):
            match _parse(line):
                case ["of", str(deployment_id)]:
                    pass
                case ["at", str(place)]:
                    pass
                case [int(lease)]:
                    noted.pop(lease, None)
                    closed.add(lease)
                case [int(lease), int(mark), int(number), str(quota), int(returned), int(units), int(overspent)]:
                    noted[lease] = Noted(lease, mark, number, quota, returned, units, overspent)
                    closed.discard(lease)
                case _:
                    _log.info("%s ends in what was not written to its end", path)
                    break
    return _Found(deployment_id, place, noted, frozenset(closed))


def _line(row: object) -> bytes:
    said = json.dumps(row, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(said), said)


def _parse(line: bytes) -> object:
    head, _, said = line.rstrip(b"\n").partition(b" ")
    try:
        if line.endswith(b"\n") and int(head, 16) == zlib.crc32(said):
            parsed: object = json.loads(said)
            return parsed
    except ValueError:
        pass
    return None


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
