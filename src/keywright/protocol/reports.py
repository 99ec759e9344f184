"""Owns what an edge tells the origin of itself: a report, authenticated by the edge, and how it is written.

A report says how far one edge is: all processes on one replica are one edge, known by its `instance`. Its MAC is
HMAC-SHA-256 under a key derived from the deployment's pepper, as a frame's is (frames.py), so that no broker can
say for an edge that it has applied what it has not. `start` and `number` tell a later report from an earlier one.

Written: `kwr1`, the MAC (32 bytes), a JSON array in one line. Names are short and plain, because they are shown in
headers, logs and tables; what is anything else is refused with ReportError, never guessed at. What format 1 has no
place for, an edge that stops or that promises to refuse, is written as format 2; how far its clock is off, as format 3;
which format of the feed it reads, and that it can't read what it follows, as format 4. These two are for an origin that
has said that it reads them. All else still is format 1.

The origin's answer tells its time, under a MAC for that very report: `sign_time` and `read_time`.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import astuple, dataclass, replace
from enum import StrEnum

from keywright.domain.keyformat import Digester
from keywright.protocol.changes import Cursor

FORMAT_VERSION = 4
"""Goes up when an older reader could misunderstand a report. All are read, and 1 is written where it says it all."""
MAX_BYTES = 1024
UNFILLED = "none"
"""What an edge without a snapshot names as its deployment, in all that it tells."""

_FIRST_MAGIC = b"kwr1"
_SECOND_MAGIC = b"kwr2"
_THIRD_MAGIC = b"kwr3"
_MAGIC = b"kwr%d" % FORMAT_VERSION
_HEAD_BYTES = len(_MAGIC) + 32
_FIRST_FIELDS, _SECOND_FIELDS, _THIRD_FIELDS = 11, 13, 14
_THIRD = 3
_NEWEST_FEED = 1000
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright edge reports\x00 1"
_TIME_LABEL = b"time"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"[A-Za-z0-9.+_-]{1,64}")
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_MOST = 10**14
"""As milliseconds since the epoch that is still a date."""


class ReportError(ValueError):
    """Not a report that an edge of this deployment made; the message says what is wrong with it."""


class EdgeState(StrEnum):
    """How an edge is doing."""

    STARTING = "starting"
    """Without a snapshot: it judges no key yet."""
    SYNCED = "synced"
    BEHIND = "behind"
    """It judges keys by what it has, and is not known to have everything."""
    GONE = "gone"
    """It has ended, and all of its processes with it: a goodbye."""


_FIRST_STATES = frozenset({EdgeState.STARTING, EdgeState.SYNCED, EdgeState.BEHIND})


@dataclass(frozen=True, slots=True)
class Report:
    """`since` is when the state was reached, in milliseconds since the epoch, by the edge's clock.

    `cursor` is None before the first snapshot, `lag` (milliseconds out of step) while it is not known. `region` is ""
    where none was set. `number` counts the reports of one `start` of the edge.
    """

    deployment_id: str
    instance: str
    start: str
    number: int
    name: str
    region: str
    version: str
    state: EdgeState
    since: int
    cursor: Cursor | None
    lag: int | None
    refuses_after: int | None = None
    """After so many milliseconds in which no report of it was taken it answers for no key; None: it goes on."""
    is_leased: bool = False
    """Whether that is its own setting, whatever its buckets say."""
    clock_offset: int | None = None
    """How many milliseconds its clock is ahead of the origin's, negative if behind; None while it does not know."""
    feed_format: int | None = None
    """The newest format of the feed that it reads; None where it does not say: of a version before that counted."""
    is_format_unknown: bool = False
    """Whether it follows nothing because what the record says is of a format that it does not read."""

    @property
    def revision(self) -> int | None:
        return None if self.cursor is None else self.cursor.revision


class ReportSigner:
    """Writes and reads reports under the key of one deployment."""

    def __init__(self, digester: Digester) -> None:
        self._key = digester.digest(_KEY_LABEL)

    def encode(self, report: Report, *, newest: int = 2) -> bytes:
        """In no newer format than `newest`; what that has no place for is left out."""
        row = astuple(report)
        is_plain = report.refuses_after is None and not report.is_leased and report.state is not EdgeState.GONE
        if newest >= FORMAT_VERSION and report.feed_format is not None:
            magic = _MAGIC
        elif newest >= _THIRD and report.clock_offset is not None:
            magic, row = _THIRD_MAGIC, row[:_THIRD_FIELDS]
        else:
            magic, row = (_FIRST_MAGIC, row[:_FIRST_FIELDS]) if is_plain else (_SECOND_MAGIC, row[:_SECOND_FIELDS])
        signed = json.dumps(row, separators=(",", ":")).encode()
        return b"%b%b%b" % (magic, self._mac(magic, signed), signed)

    def decode(self, data: bytes) -> Report:
        """Raises ReportError."""
        if len(data) > MAX_BYTES:
            raise ReportError(f"a report has at most {MAX_BYTES} bytes")
        magic = data[: len(_MAGIC)]
        if magic not in _READERS:
            raise ReportError(f"not a report of format {FORMAT_VERSION}: origin and edge are of different versions")
        signed = data[_HEAD_BYTES:]
        if not hmac.compare_digest(data[len(_MAGIC) : _HEAD_BYTES], self._mac(magic, signed)):
            raise ReportError("the report was not made by an edge of this deployment, or was changed on its way")
        try:
            row = json.loads(signed)
        except (ValueError, RecursionError):
            raise ReportError("the report can't be read") from None
        return _READERS[magic](row)

    def sign_time(self, report: Report, millis: int) -> str:
        """What proves that it was so late (in milliseconds since the epoch) at the origin when that had this report."""
        told = f"{report.instance}/{report.start}/{report.number}/{millis}"
        return self._mac(_TIME_LABEL, told.encode()).hex()

    def read_time(self, report: Report, told: Mapping[str, object]) -> int | None:
        """The origin's time in an answer to this report; None where it tells none, or what is not its own."""
        match told:
            case {"time": int(millis), "proof": str(proof)} if type(millis) is int and 0 <= millis <= _MOST:
                # compare_digest takes other text as bytes only.
                is_good = proof.isascii() and hmac.compare_digest(proof, self.sign_time(report, millis))
                return millis if is_good else None
        return None

    def _mac(self, magic: bytes, signed: bytes) -> bytes:
        return hmac.digest(self._key, magic + signed, "sha256")


def is_edge_name(text: str) -> bool:
    """Whether an edge, or a region, can have this name."""
    return _NAME.fullmatch(text) is not None


def edge_name_of(host: str) -> str:
    """The name of a host, as far as an edge can have it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host)[:64] or "edge"


def _checked_fourth(row: object) -> Report:
    """A row of format 4: one of format 3, whose clock need not be known, and what of the feed the edge can read."""
    match row:
        case [*second, int() | None as offset, int(feed_format), bool(is_unknown)] if type(feed_format) is int:
            if not 1 <= feed_format <= _NEWEST_FEED:
                raise ReportError("the report holds a number that can't be")
            report = _checked_second(second) if offset is None else _checked_third([*second, offset])
            return replace(report, feed_format=feed_format, is_format_unknown=is_unknown)
    raise ReportError("the report is of another shape")


def _checked_third(row: object) -> Report:
    """A row of format 3: one of format 2, and how far the edge's clock is off."""
    match row:
        case [*second, int(offset)] if type(offset) is int and abs(offset) <= _MOST:
            return replace(_checked_second(second), clock_offset=offset)
    raise ReportError("the report is of another shape")


def _checked_second(row: object) -> Report:
    """A row of format 2: one of format 1, and what the edge promises."""
    match row:
        case [*first, int() | None as refuses_after, bool(is_leased)] if type(refuses_after) is not bool:
            if refuses_after is not None and not 0 <= refuses_after <= _MOST:
                raise ReportError("the report holds a number that can't be")
            if is_leased and refuses_after is None:
                raise ReportError("the report tells of a lease without an end")
            report = _checked(first, set(EdgeState))
            return replace(report, refuses_after=refuses_after, is_leased=is_leased)
    raise ReportError("the report is of another shape")


def _checked(row: object, states: Collection[EdgeState] = _FIRST_STATES) -> Report:
    match row:
        case [
            str(deployment), str(instance), str(start), int(number),
            str(name), str(region), str(version), str(state),
            int(since), list() | None as place, int() | None as lag,
        ]:  # fmt: skip
            cursor = None if place is None else _cursor(place)
            counts = [number, since, 0 if lag is None else lag]
            # To Python a bool is an int.
            if any(type(count) is bool or not 0 <= count <= _MOST for count in counts):
                raise ReportError("the report holds a number that can't be")
            if not (_INSTANCE.fullmatch(instance) and _INSTANCE.fullmatch(start) and _NAME.fullmatch(deployment)):
                raise ReportError("the report holds an id of another form")
            if not (is_edge_name(name) and (not region or is_edge_name(region)) and _VERSION.fullmatch(version)):
                raise ReportError("an edge's name and region are 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
            if state not in states:
                raise ReportError("the report tells of a state that is not known")
            return Report(
                deployment, instance, start, number, name, region, version, EdgeState(state), since, cursor, lag
            )
    raise ReportError("the report is of another shape")


def _cursor(row: list[object]) -> Cursor:
    match row:
        case [int(revision), str(stamp), int(stamped_at)] if not (
            isinstance(revision, bool) or isinstance(stamped_at, bool)
        ):
            # As text it has one form, which says how long a stamp is and how large a number.
            with contextlib.suppress(ValueError):
                return Cursor.parse(str(Cursor(revision, stamp, stamped_at)))
    raise ReportError("the report holds a cursor of another shape")


_READERS: Mapping[bytes, Callable[[object], Report]] = {
    _FIRST_MAGIC: _checked,
    _SECOND_MAGIC: _checked_second,
    _THIRD_MAGIC: _checked_third,
    _MAGIC: _checked_fourth,
}
