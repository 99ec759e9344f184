"""Owns the life of one part of a table: opened, entered under its lock, closed and succeeded, among all processes.

The process that has the file's lock changes it. One that is stopped while it has the lock (SIGSTOP, a frozen container)
would keep all others waiting, so who has waited for long enough closes the file, copies it, with the change whose
journal holds, and goes on in the copy, as everybody does who finds a file closed. Of several copies the first that has
the next number's name is the one. Whoever was stopped finds the file closed as well, and in the copy whether its own
change is there: if not it begins anew. So such a stop neither loses a change nor counts it twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
from typing import TYPE_CHECKING, TypeVar

from keywright.edge.limits import rows
from keywright.edge.limits.gcra import WHOLE
from keywright.edge.limits.rows import WORD
from keywright.edge.limits.table_file import ForeignFile, OtherStart, TableFile, make, redo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_INHERITED = struct.Struct(f"@{rows.INHERITED_KEPT}Q")


class SharedFile:
    """From any thread. A file is opened, or made, when it is first needed. Everything here may raise OSError."""

    def __init__(self, directory: Path, number: int, boot: bytes, first_share: int = WHOLE) -> None:
        """`first_share` is the fallback share in a file that is made here."""
        self._directory = directory
        self._prefix = f"{number}."
        self._boot = boot
        self._first_share = first_share
        self._using = threading.Lock()
        self._file: TableFile | None = None
        self._change = int.from_bytes(os.urandom(4), "big") << 32

    def close(self) -> None:
        """Let go of the file. Whoever asks again opens it again."""
        with self._using:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def change(self, work: Callable[[TableFile], tuple[_T, Sequence[tuple[int, bytes]]]]) -> _T:
        """What `work` comes to, whose rows are then written, all or none, once. It is called again where the file that
        it has looked at was closed meanwhile.
        """
        with self._using:
            while True:
                file = self._enter()
                change = self._change
                try:
                    found, images = work(file)
                    # Asked here: who was stopped up to this moment writes where nobody looks any more.
                    if images and not file.is_closed:
                        file.write(change, images)
                finally:
                    file.unlock()
                # It was closed meanwhile? What is written in the copy, too, is done.
                if not file.is_closed or self._is_inherited(change):
                    return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[TableFile]:
        """The file, locked. Who is stopped within, and overtaken, has changed what nobody looks at any more."""
        with self._using:
            file = self._enter()
            try:
                yield file
            finally:
                file.unlock()

    def _enter(self) -> TableFile:
        """The file that counts, locked, for a change of the number that `_change` has then."""
        file = self._file
        if file is None:
            file = self._file = self._open()
        while True:
            if not file.lock():
                file = self._file = self._succeed(file)
                continue
            try:
                self._change += 1
                if file.begin(self._change):
                    return file
            except ForeignFile:
                file.close_for_all()
            file.unlock()
            file = self._file = self._succeed(file)

    def _is_inherited(self, change: int) -> bool:
        file = self._enter()
        try:
            return change in _INHERITED.unpack_from(file.map, rows.INHERITED)
        finally:
            file.unlock()

    def _open(self) -> TableFile:
        while True:
            path = self._newest()
            if path is None:
                make(self._directory / f"{self._prefix}1", self._boot, first_share=self._first_share)
                continue
            try:
                return TableFile.open(path, self._boot)
            except FileNotFoundError:
                continue
            except ForeignFile as error:
                self._begin_anew(path, error)

    def _succeed(self, closed: TableFile) -> TableFile:
        """The file that has taken the place of this one, which is closed; made here if nobody has made it yet."""
        if self._newest() in (closed.path, None):
            closed.close_for_all()
            try:
                closed.refresh()
                copy = _copied(closed)
            except ForeignFile as error:
                self._begin_anew(closed.path, error)
            else:
                if make(self._following(closed.path), self._boot, copy):
                    _log.warning("a process that counts limits does not move: the others go on without it")
                    closed.path.unlink(missing_ok=True)
        opened = self._open()
        closed.close()
        return opened

    def _begin_anew(self, path: Path, error: ForeignFile) -> None:
        if not isinstance(error, OtherStart):
            _log.warning("%s is no table of limits (%s): they are counted anew", path, error)
        make(self._following(path), self._boot, first_share=self._first_share)
        path.unlink(missing_ok=True)

    def _following(self, path: Path) -> Path:
        return self._directory / f"{self._prefix}{_number(path.name, self._prefix) + 1}"

    def _newest(self) -> Path | None:
        names = [name for name in os.listdir(self._directory) if _number(name, self._prefix)]
        newest = max(names, key=lambda name: _number(name, self._prefix), default=None)
        return None if newest is None else self._directory / newest


def _number(name: str, prefix: str) -> int:
    digits = name.removeprefix(prefix)
    return int(digits) if name.startswith(prefix) and digits.isdecimal() else 0


def _copied(closed: TableFile) -> bytearray:
    """What a closed file holds, with the change that its journal has, as a file of its own."""
    copy = bytearray(closed.map)
    journal, last = (WORD.unpack_from(copy, place)[0] for place in (rows.JOURNAL, rows.LAST))
    redo(copy)
    inherited = (journal, last, *_INHERITED.unpack_from(copy, rows.INHERITED))[: rows.INHERITED_KEPT]
    _INHERITED.pack_into(copy, rows.INHERITED, *inherited)
    WORD.pack_into(copy, rows.CLOSED, 0)
    return copy
