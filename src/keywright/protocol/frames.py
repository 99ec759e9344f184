"""Owns the envelope in which changes travel to edges: a frame, authenticated by the origin, and how it is written.

A frame's MAC is HMAC-SHA-256 under a key derived from the deployment's pepper, which every edge has already. It covers
every byte of the frame: whose record it is, for which reader and which request (the nonce) it was made, its place in
the answer, the revisions and the changes. So whoever holds the wire can't mint, alter, reorder, leave out or replay.

On the wire: length (4 bytes, big-endian, of what follows), `kwf2`, the MAC (32 bytes), a JSON array in one line, and
the changes, one line each (protocol/changes.py). What is wrong in any way is refused with FrameError, never guessed at.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keywright.domain.keyformat import Digester
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, Cursor, KeyPut, PlanPut, decode_all, encode

FORMAT_VERSION = 2
"""Goes up when an older reader could misunderstand a frame. Format 1 had revisions without stamps."""
MAX_BYTES = 8 * 1024 * 1024
"""A longer frame is refused before it is read; `pack` stays far below."""
BODY_BYTES = 256 * 1024
"""A frame takes no more changes once its body has this length."""

_MAGIC = b"kwf%d" % FORMAT_VERSION
_ANY_MAGIC = re.compile(rb"kwf[0-9]")
_LENGTH_BYTES = 4
_MAC_BYTES = 32
_HEAD_BYTES = len(_MAGIC) + _MAC_BYTES
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright feed frames\x00 1"


class FrameError(ValueError):
    """Not a frame that the origin made for this request; the message says what is wrong with it."""


class FormatUnknown(FrameError):
    """What the origin made is of a format that this version does not read."""


class FrameKind(StrEnum):
    CHANGES = "changes"
    """The changes that lead from `follows` to `cursor`; without any it is a heartbeat."""
    PAGE = "page"
    """Part of a snapshot at `cursor`."""
    END = "end"
    """The snapshot was whole."""
    SNAPSHOT = "snapshot"
    """The reader needs a new snapshot: these changes can't tell it what it may see now."""


@dataclass(frozen=True, slots=True)
class Frame:
    """`scope` stands for what the reader may see, `nonce` is the request's own, `number` counts the answer's frames.

    `follows` and `cursor` are what the changes lead on from and to, `head` is the newest revision there was. `time` is
    in milliseconds and only ever compared with that of another frame of the same answer; in a snapshot file it is when
    that was made.
    """

    deployment_id: str
    kind: FrameKind
    scope: str
    nonce: str
    number: int
    follows: Cursor
    cursor: Cursor
    head: int
    time: int
    changes: Sequence[Change] = ()


class FrameSigner:
    """Writes and reads frames under the key of one deployment."""

    def __init__(self, digester: Digester) -> None:
        self._key = digester.digest(_KEY_LABEL)

    def encode(self, frame: Frame) -> bytes:
        head = [
            frame.deployment_id, frame.kind, frame.scope, frame.nonce,
            frame.number, frame.follows, frame.cursor, frame.head, frame.time,
        ]  # fmt: skip
        lines = [json.dumps(head, separators=(",", ":")), *(encode(change) for change in frame.changes)]
        signed = "\n".join(lines).encode()
        length = _HEAD_BYTES + len(signed)
        return b"%b%b%b%b" % (length.to_bytes(_LENGTH_BYTES, "big"), _MAGIC, self._mac(signed), signed)

    def decode(self, data: bytes) -> Frame:
        """The frame behind its length. Raises FrameError."""
        if data[: len(_MAGIC)] != _MAGIC:
            told = f"not a frame of format {FORMAT_VERSION}: origin and edge are of different versions"
            raise FormatUnknown(told) if _ANY_MAGIC.match(data) else FrameError(told)
        signed = data[_HEAD_BYTES:]
        if not hmac.compare_digest(data[len(_MAGIC) : _HEAD_BYTES], self._mac(signed)):
            raise FrameError("the frame was not made by the origin, or was changed on its way")
        try:
            head, *lines = signed.decode().split("\n")
            match json.loads(head):
                case [
                    str(deployment), str(kind), str(scope), str(nonce),
                    int(number), list(follows), list(cursor), int(newest), int(time),
                ] if not any(isinstance(count, bool) for count in (number, newest, time)):  # fmt: skip
                    places = _cursor(follows), _cursor(cursor)
                    changes = _decode_all(lines)
                    return Frame(deployment, FrameKind(kind), scope, nonce, number, *places, newest, time, changes)
        except FormatUnknown:
            raise
        except (ValueError, RecursionError) as error:
            raise FrameError(f"the frame can't be read: {error}") from None
        raise FrameError("the frame can't be read: its head is of another shape")

    def _mac(self, signed: bytes) -> bytes:
        return hmac.digest(self._key, _MAGIC + signed, "sha256")


class FrameSplitter:
    """Cuts a stream of bytes into frames. Raises FrameError for a length that no frame has."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for the rest of its frame."""
        return not self._data

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames, without their lengths, that are whole with these bytes."""
        self._data += data
        while len(self._data) >= _LENGTH_BYTES:
            length = int.from_bytes(self._data[:_LENGTH_BYTES], "big")
            if not _HEAD_BYTES <= length <= MAX_BYTES:
                raise FrameError("the bytes are no frame")
            end = _LENGTH_BYTES + length
            if len(self._data) < end:
                return
            frame = bytes(self._data[_LENGTH_BYTES:end])
            del self._data[:end]
            yield frame


def pack(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in parts that each fit a frame; nothing for nothing."""
    part: list[Change] = []
    size = 0
    for change in changes:
        part.append(change)
        size += _estimate(change)
        if size >= BODY_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _estimate(change: Change) -> int:
    """About the bytes of a change as it is encoded; no less than half of them, if all of its metadata is escaped."""
    match change:
        case KeyPut(powers=str(powers)):
            return 150 + len(powers.encode())
        case ConsumerPut():
            return 100 + len(change.name) + len(change.metadata.encode()) + len((change.powers or "").encode())
        case BucketPut():
            named = sum(len(name) + 3 for name in (*change.default_scopes, *change.features))
            return 200 + 60 * len(change.grants) + named
        case PlanPut():
            return 150 + len(change.name) + len((change.powers or "").encode())
    return 150


def _decode_all(lines: Sequence[str]) -> list[Change]:
    """Raises FormatUnknown: the origin's MAC was found to be good, so no line was spoilt on its way."""
    try:
        return decode_all(lines)
    except ValueError as error:
        told = f"the frame can't be read: {error}; origin and edge are of different versions"
        raise FormatUnknown(told) from None


def _cursor(values: list[object]) -> Cursor:
    match values:
        case [int(revision), str(stamp), int(stamped_at)] if not isinstance(revision, bool):
            return Cursor(revision, stamp, stamped_at)
    raise ValueError("a cursor of another shape")
