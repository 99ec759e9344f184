"""Owns what an edge and the origin say to each other of global rate limits, once a second: who uses which, and shares.

A limit that counts for all edges together is known by an id of 16 bytes, the same at all of them, that begins with its
consumer's number (5 bytes, little-endian): what a limit is said to be of it is of. An edge tells how fast it admits
for those in use, and which answer it goes by (`taken`); it is told the shares that have changed. A share is a whole
number of parts, of which WHOLE are the limit: sums are exact.

Both are authenticated as reports are (reports.py), under a key of their own: a report by the edge, the answer for that
very report, so that nobody tells for another edge, and nothing is heard twice. `start` and `number` tell a later report
from an earlier one. One that has more to tell than MAX_USES does so in several, one after the other.

Written: `kws1`, the MAC (32 bytes), a JSON array in one line, then rows: in a report 29 bytes for each use (id, units a
second, limit, window, flags) and 20 for what was freed (id, parts), in an answer 24 for each share (id, parts, unused).
"""

from __future__ import annotations

import hmac
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from keywright.domain.keyformat import Digester
from keywright.domain.limits import MAX_RATE, MAX_WINDOW_SECONDS

FORMAT_VERSION = 1
"""Goes up when an older reader could misunderstand a message."""
WHOLE = 1 << 31
"""A limit has so many parts."""
NO_SHARE = WHOLE + 1
"""In an answer: this limit is not shared out any more, the fallback share holds."""
ID_BYTES, CONSUMER_BYTES = 16, 5
MAX_USES = 16_384
"""Limits that one report tells of, and shares that one answer has."""
MAX_LIMITS = 100_000
"""Limits that one edge tells of."""
HELD_SECONDS = 10.0
"""For so long after it asked an edge goes by the shares that it was told, without hearing more."""
RISE_SECONDS = 18.0
"""So much later than it asked a cut off edge has its fallback share of limits of which it had less: by then nobody has
what it may have been given instead."""
ANSWER_SECONDS = 2.0
"""For so long an edge waits for an answer; one that comes later it does not take."""
LONGEST_PAUSE_SECONDS = 5.0
MEDIA_TYPE = "application/vnd.keywright.shares"

_MAGIC = b"kws%d" % FORMAT_VERSION
_HEAD_BYTES = len(_MAGIC) + 32
_MAX_LINE = 512
_USE, _FREED, _SHARE = struct.Struct(">16sfIIB"), struct.Struct(">16sI"), struct.Struct(">16sII")
MAX_BYTES = _HEAD_BYTES + _MAX_LINE + MAX_USES * (_USE.size + _FREED.size)
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright edge shares\x00 1"
_REPORT, _ANSWER = b"report", b"answer"
_IS_SHORT = 1
_MOST_RATE = float(MAX_RATE) * 10
_MOST_NUMBER = 10**14
_DEPLOYMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


class SharesError(ValueError):
    """Not what an edge, or an origin, of this deployment wrote; the message says what is wrong with it."""


class Use(NamedTuple):
    """How an edge uses a limit of `limit` in `window_seconds`: units that it admits a second; `is_short`: it refuses
    some, and had use for more.
    """

    rate: float
    is_short: bool
    limit: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class UseReport:
    """What an edge tells. `taken` is the number of the answer whose shares it goes by, 0 for none since its `start`.

    It is `part`, counted from 0, of so many `parts`.
    """

    deployment_id: str
    instance: str
    start: str
    number: int
    taken: int
    uses: Mapping[bytes, Use]
    part: int = 0
    parts: int = 1
    freed: Mapping[bytes, int] = field(default_factory=dict)
    """Of shares that have become smaller since the last report: how much of what it gave up, in parts, was not used."""


@dataclass(frozen=True, slots=True)
class ShareAnswer:
    """`shares` are those that differ from what the edge is known to go by, in parts, or NO_SHARE. All it was told
    before holds on, unless it `is_whole`: then these are all there are. `fallback` holds for all other limits.
    """

    number: int
    fallback: int
    edges: int
    pause_seconds: float
    is_whole: bool = False
    shares: Mapping[bytes, int] = field(default_factory=dict)
    unused: Mapping[bytes, int] = field(default_factory=dict)
    """Of those that grow: how much of what they grow by, in parts, others have given up unused. The rest is used up."""


class SharesSigner:
    """Writes and reads both under the key of one deployment."""

    def __init__(self, digester: Digester) -> None:
        self._key = digester.digest(_KEY_LABEL)

    def encode_report(self, report: UseReport) -> bytes:
        line = _line(
            report.deployment_id,
            report.instance,
            report.start,
            report.number,
            report.taken,
            report.part,
            report.parts,
            len(report.uses),
        )
        pack = _USE.pack
        rows = [
            pack(id, use.rate, use.limit, use.window_seconds, _IS_SHORT if use.is_short else 0)
            for id, use in report.uses.items()
        ]
        freed = [_FREED.pack(id, parts) for id, parts in report.freed.items()]
        return self._signed(_REPORT, b"".join((line, *rows, *freed)))

    def decode_report(self, data: bytes) -> UseReport:
        """Raises SharesError."""
        row, packed = self._read(data, _REPORT)
        match row:
            case [
                str(deployment), str(instance), str(start), int(number), int(taken), int(part), int(parts), int(count)
            ] if (
                _are_numbers(number, taken, part, parts, count) and part < parts <= -(-MAX_LIMITS // MAX_USES)
                and _DEPLOYMENT.fullmatch(deployment) and _INSTANCE.fullmatch(instance) and _INSTANCE.fullmatch(start)
            ):  # fmt: skip
                uses = {}
                end = count * _USE.size
                for id, rate, limit, seconds, flags in _rows(_USE, packed[:end], count):
                    # A NaN is in no range.
                    is_limit = 1 <= limit <= MAX_RATE and 1 <= seconds <= MAX_WINDOW_SECONDS
                    if not 0 <= rate <= _MOST_RATE or not is_limit or flags > _IS_SHORT:
                        raise SharesError("the report tells of a use that can't be")
                    uses[id] = Use(rate, flags == _IS_SHORT, limit, seconds)
                freed = dict(_rows(_FREED, packed[end:]))
                if any(parts_ > WHOLE for parts_ in freed.values()):
                    raise SharesError("the report tells of more than there can be")
                return UseReport(deployment, instance, start, number, taken, uses, part, parts, freed)
        raise SharesError("the report is of another shape")

    def encode_answer(self, answer: ShareAnswer, report: UseReport) -> bytes:
        line = _line(answer.number, answer.fallback, answer.edges, answer.pause_seconds, answer.is_whole)
        pack = _SHARE.pack
        rows = [pack(id, share, answer.unused.get(id, 0)) for id, share in answer.shares.items()]
        return self._signed(_answer_to(report), b"".join((line, *rows)))

    def decode_answer(self, data: bytes, report: UseReport) -> ShareAnswer:
        """What was answered to that report. Raises SharesError."""
        row, packed = self._read(data, _answer_to(report))
        match row:
            case [int(number), int(fallback), int(edges), int() | float() as pause, bool(is_whole)] if (
                _are_numbers(number, fallback, edges)
                and fallback <= WHOLE
                and not isinstance(pause, bool)
                and math.isfinite(pause)
                and 0 <= pause <= LONGEST_PAUSE_SECONDS
            ):
                rows = _rows(_SHARE, packed)
                if any(share > NO_SHARE or unused > share for _, share, unused in rows):
                    raise SharesError("the answer tells of a share that can't be")
                shares = {id: share for id, share, _ in rows}
                grown = {id: unused for id, _, unused in rows if unused}
                return ShareAnswer(number, fallback, edges, float(pause), is_whole, shares, grown)
        raise SharesError("the answer is of another shape")

    def _signed(self, label: bytes, body: bytes) -> bytes:
        return b"%b%b%b" % (_MAGIC, self._mac(label, body), body)

    def _read(self, data: bytes, label: bytes) -> tuple[object, memoryview]:
        if len(data) > MAX_BYTES:
            raise SharesError(f"a message on shares has at most {MAX_BYTES} bytes")
        if data[: len(_MAGIC)] != _MAGIC:
            raise SharesError("not a message on shares: origin and edge are of different versions")
        body = data[_HEAD_BYTES:]
        if not hmac.compare_digest(data[len(_MAGIC) : _HEAD_BYTES], self._mac(label, body)):
            raise SharesError("the message on shares was not made by this deployment, or not for this")
        end = body.find(b"\n", 0, _MAX_LINE)
        if end < 0:
            raise SharesError("the message on shares can't be read")
        try:
            return json.loads(body[:end]), memoryview(body)[end + 1 :]
        except (ValueError, RecursionError):
            raise SharesError("the message on shares can't be read") from None

    def _mac(self, label: bytes, body: bytes) -> bytes:
        # The label's length stands before it, so that no other label and body make the same text.
        return hmac.digest(self._key, b"%c%b%b" % (len(label), label, body), "sha256")


def consumer_number_of(id: bytes) -> int:
    """Whose limit it is, or whose key's."""
    return int.from_bytes(id[:CONSUMER_BYTES], "little")


def _answer_to(report: UseReport) -> bytes:
    return b"%b/%b/%b/%d" % (_ANSWER, report.instance.encode(), report.start.encode(), report.number)


def _line(*row: object) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _rows(kind: struct.Struct, packed: memoryview, count: int | None = None) -> list[tuple[Any, ...]]:
    is_other = count is not None and len(packed) != count * kind.size
    if is_other or len(packed) % kind.size or len(packed) > kind.size * MAX_USES:
        raise SharesError("the message on shares is of another length")
    return list(kind.iter_unpack(packed))


def _are_numbers(*values: int) -> bool:
    """To Python a bool is an int."""
    return all(type(value) is int and 0 <= value <= _MOST_NUMBER for value in values)
