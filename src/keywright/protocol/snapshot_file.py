"""Owns the form of a snapshot file: the record at one revision, from which an edge starts without an origin.

One line of text (format and pepper check, both public), then frames (protocol/frames.py): pages, as a snapshot over the
feed has them, and an end frame. Each frame carries a MAC under the pepper, its number and the file's own nonce, so that
nothing can be changed, left out, moved or added, and frames of two files can't be mixed. The nonce begins as no
request's can: a frame of a file is never taken for an origin's answer, nor an answer for a file.

What is no such file is refused with SnapshotFileError, never guessed at. Only the end tells that a file is whole: what
was read before must not be used until `pages` is exhausted. Opening files is left to those who have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keywright.domain.keyformat import Digester
from keywright.protocol.changes import NOWHERE, Change, Cursor
from keywright.protocol.feed_formats import NEWEST, OLDEST
from keywright.protocol.frames import FormatUnknown, Frame, FrameError, FrameKind, FrameSigner, FrameSplitter, pack

FORMAT_VERSION = 2
"""Goes up when an older reader could misunderstand a file, or refuses its rows. Format 1 has those of the feed's format
2; it is still read, and written for those who read no other.
"""
_FILE_FORMATS = {OLDEST: 1, NEWEST: FORMAT_VERSION}
"""The format of a file by that of its rows."""

TITLE = b"keywright snapshot "
_LINE_BYTES = 64
"""The first line is shorter than this."""
_NONCE_PREFIX = "file:"
_KINDS = (FrameKind.PAGE, FrameKind.END)


class SnapshotFileError(Exception):
    """Not a whole snapshot file of this pepper; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """What a file is of. `scope` stands for what it shows of the record; `made_at` is in milliseconds since 1970.

    `feed_format` is that of its rows (feed_formats.py).
    """

    deployment_id: str
    scope: str
    cursor: Cursor
    made_at: int
    feed_format: int = NEWEST


class SnapshotWriter:
    """The bytes of one file, in order: `begin`, `add` for each page of the record, `end`."""

    def __init__(self, digester: Digester, head: SnapshotHead, random_text: str) -> None:
        self._signer = FrameSigner(digester)
        self._pepper_check = digester.pepper_check()
        self._head = head
        self._nonce = _NONCE_PREFIX + random_text
        self._number = 0

    def begin(self) -> bytes:
        return _first_line(self._pepper_check, self._head.feed_format) + self._frame(FrameKind.PAGE)

    def add(self, page: Sequence[Change]) -> Iterator[bytes]:
        for part in pack(page):
            yield self._frame(FrameKind.PAGE, part)

    def end(self) -> bytes:
        return self._frame(FrameKind.END)

    def _frame(self, kind: FrameKind, changes: Sequence[Change] = ()) -> bytes:
        head = self._head
        frame = Frame(
            head.deployment_id,
            kind,
            head.scope,
            self._nonce,
            self._number,
            follows=NOWHERE,
            cursor=head.cursor,
            head=head.cursor.revision,
            time=head.made_at,
            changes=changes,
        )
        self._number += 1
        return self._signer.encode(frame)


class SnapshotReader:
    """One file, read once, from pieces of its bytes that may be cut anywhere. Raises SnapshotFileError throughout."""

    def __init__(self, digester: Digester, pieces: Iterator[bytes]) -> None:
        self._signer = FrameSigner(digester)
        self._pieces = pieces
        self._splitter = FrameSplitter()
        feed_format, rest = self._after_first_line(digester.pepper_check())
        self._frames = self._split(rest)
        first = next(self._frames, None)
        if first is None or first.kind is not FrameKind.PAGE or first.number != 0:
            raise SnapshotFileError("the file does not begin as a snapshot does")
        if not first.nonce.startswith(_NONCE_PREFIX):
            raise SnapshotFileError("the file holds an origin's answer, which is no snapshot file")
        if (first.scope.partition("/")[2] or str(OLDEST)) != str(feed_format):
            raise SnapshotFileError("the file's first line was changed: its rows are of another format")
        self._first = first
        self.head = SnapshotHead(first.deployment_id, first.scope, first.cursor, first.time, feed_format)

    def pages(self) -> Iterator[Sequence[Change]]:
        """Every page. When this ends, and not before, the file was whole."""
        first = self._first
        yield first.changes
        number = first.number
        for frame in self._frames:
            number += 1
            if (frame.nonce, frame.number) != (first.nonce, number) or frame.kind not in _KINDS:
                raise SnapshotFileError("a part of the file is missing, moved, or of another file")
            if frame.kind is FrameKind.END:
                if next(self._frames, None) is not None or not self._splitter.is_empty:
                    raise SnapshotFileError("something follows the end of the snapshot")
                return
            yield frame.changes
        raise SnapshotFileError("the file is cut short")

    def _after_first_line(self, pepper_check: str) -> tuple[int, bytes]:
        """The format of the rows, and what follows the line."""
        data = b""
        while b"\n" not in data and len(data) < _LINE_BYTES and (piece := next(self._pieces, None)) is not None:
            data += piece
        line, _, rest = data.partition(b"\n")
        for feed_format in _FILE_FORMATS:
            if line + b"\n" == _first_line(pepper_check, feed_format):
                return feed_format, rest
        format_, _, _ = line.removeprefix(TITLE).partition(b" ")
        if not line.startswith(TITLE) or len(line) >= _LINE_BYTES or not format_.isdigit():
            raise SnapshotFileError("the file is not a snapshot of Keywright")
        if int(format_) not in _FILE_FORMATS.values():
            read = " and ".join(map(str, _FILE_FORMATS.values()))
            raise SnapshotFileError(f"the file has format {int(format_)}; this version reads {read}")
        raise SnapshotFileError("the snapshot was made under another pepper: no key in it could be recognised")

    def _split(self, data: bytes) -> Iterator[Frame]:
        piece: bytes | None = data
        try:
            while piece is not None:
                for raw in self._splitter.feed(piece):
                    yield self._signer.decode(raw)
                piece = next(self._pieces, None)
        except FormatUnknown as error:
            raise SnapshotFileError(f"the file is of a later version: {error}") from error
        except FrameError as error:
            raise SnapshotFileError(f"the file is damaged, or was changed: {error}") from error


def _first_line(pepper_check: str, feed_format: int) -> bytes:
    return b"%b%d %b\n" % (TITLE, _FILE_FORMATS[feed_format], pepper_check.encode())
