"""Owns a batch of usage: counts of validations by key, verdict and hour, as edges seal them and origins take them.

A process that judges keys draws an `epoch` when it starts, and numbers its batches from 1 on. Epoch, number and the
SHA-256 of the content are a batch's name, wherever it is sent from: who has taken it once knows it again, and two
contents under one number are seen. What goes beside it on its way, signed, is usage_delivery.py's.

Written: `kwb1`, a JSON array in one line, then rows of 72 bytes, compressed (zlib). Texts that rows have (verdicts,
scopes, routes, addresses) stand in the line once, and in rows by their place from 1 on; 0 is None. What is out of its
bounds is refused with UsageError, never guessed at.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

FORMAT_VERSION = 1
"""Goes up when an older reader could misunderstand a batch."""
HOUR_MILLIS = 3_600_000
MAX_ROWS = 10_000
"""In one batch: it fits, however little it can be compressed, into what a broker takes by default (1 MiB)."""
MAX_TEXTS = 1_000
MAX_TEXT_LENGTH = 128
MAX_LOSSES = 200
OTHER_ADDRESSES = "other"
MAX_COUNT = 10**15
MAX_NUMBER = 10**12

_MAGIC = b"kwb%d" % FORMAT_VERSION
_MAX_LINE = 200 * 1024
_ROW = struct.Struct(">IIQ28sIHHHHQII")
MAX_BYTES = len(_MAGIC) + _MAX_LINE + MAX_ROWS * _ROW.size + 1024
_MAX_HOUR, _MAX_MILLIS = 10**7, 10**14
_NUMBER_LIMIT = 1 << 32
_EPOCH = re.compile(r"[0-9a-f]{32}")
_DEPLOYMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_KEY_ID = re.compile(r"[A-Za-z0-9_]{1,28}")
_VERDICT = re.compile(r"[A-Z_]{1,32}")
_TEXT = re.compile(rf"[A-Za-z0-9._:*/-]{{1,{MAX_TEXT_LENGTH}}}")


class UsageError(ValueError):
    """Not a batch that an edge sealed; the message says what is wrong with it."""


class LossReason(StrEnum):
    """Why counts are missing."""

    KILLED = "killed"
    """A process ended without sealing what it had counted since its last batch: its `epoch` has no more batches."""
    SPOOL_FULL = "spool-full"
    DAMAGED = "damaged"
    """A file of the spool was not what it was when it was written."""
    MISSING = "missing"
    """The origin waits for batches that the spool does not have: a disk, or the origin's database, was restored."""
    NOT_KEPT = "not-kept"
    """The counts could not be written to the spool."""
    CONFLICT = "conflict"
    """Another batch was taken under this number before. Said by the origin."""
    TOO_OLD = "too-old"
    """Of hours that the origin keeps no more. Said by the origin."""
    FROM_AFTER_NOW = "from-after-now"
    """Of hours more than a day ahead of the origin's clock. Said by the origin."""
    NOT_ALLOWED = "not-allowed"
    """Of buckets that the sender's token may not validate in, or that there never were. Said by the origin."""


_REASONS = frozenset(LossReason)


class Loss(NamedTuple):
    """Between `since` and `until` (milliseconds since the epoch) some counts were lost: `lost` of them, None if nobody
    knows how many. They were in batches `first_number` to `number` of `epoch`, both None if they never were in any.
    """

    epoch: str
    first_number: int | None
    number: int | None
    lost: int | None
    since: int
    until: int
    reason: LossReason


class UsageRow(NamedTuple):
    """How often one verdict was given on one key in one hour. No two rows of a batch are alike in all but numbers."""

    hour: int
    """Whole hours since the epoch (UTC), by the edge's reckoning of the origin's clock."""
    bucket_number: int
    consumer_number: int | None
    """None for verdicts on what is no known key (UNKNOWN, MALFORMED): they count by bucket only."""
    key_id: str | None
    """None with `consumer_number`."""
    verdict: str
    """As Verdict has it; a reader may meet one that it doesn't know."""
    plan: int | None
    """The number of the plan that the consumer was on."""
    denied_scope: str | None
    """With INSUFFICIENT_SCOPE: the first of those demanded that is not granted."""
    route: str | None
    """A tag that the caller sent."""
    total: int
    """At least 1."""
    first_ms: int
    """When the first of them was, in milliseconds since the beginning of the hour: 0 to 3,599,999."""
    last_ms: int
    """When the last of them was; not before `first_ms`."""
    address: str | None = None
    """The client's network (a /24 or /48, such as `192.0.2.0/24`), where the bucket wishes that; OTHER_ADDRESSES for
    more networks than an edge tells apart.
    """


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What one process counted since its batch before. All moments are milliseconds since the epoch.

    It follows number `first_number - 1` of its epoch, and `number` is its own: both are the same but where it stands
    for several that were lost, which then are in `losses`, and has no rows. `instance`, `name` and `region` are of the
    edge that counted. What was counted before `until` is in this batch or one before it, or was lost and is said.
    `losses` may also tell of other epochs: of processes of the same edge that were killed.
    """

    deployment_id: str
    epoch: str
    first_number: int
    number: int
    instance: str
    name: str
    region: str
    sealed_at: int
    until: int
    rows: tuple[UsageRow, ...] = ()
    losses: tuple[Loss, ...] = ()

    @property
    def is_stand_in(self) -> bool:
        """Whether it only says that batches of these numbers are lost."""
        return not self.rows and any(one.epoch == self.epoch and one.number is not None for one in self.losses)


def encode(batch: UsageBatch) -> bytes:
    """The content of a batch of at most MAX_ROWS rows, MAX_TEXTS texts and MAX_LOSSES losses."""
    places: dict[str | None, int] = {None: 0}
    pack, rows = _ROW.pack, []
    for row in batch.rows:
        texts = (row.verdict, row.denied_scope, row.route, row.address)
        at = [places.setdefault(text, len(places)) for text in texts]
        rows.append(
            pack(
                row.hour,
                row.bucket_number,
                0 if row.consumer_number is None else row.consumer_number + 1,
                (row.key_id or "").encode(),
                0 if row.plan is None else row.plan + 1,
                *at,
                row.total,
                row.first_ms,
                row.last_ms,
            )
        )
    line = [
        batch.deployment_id,
        batch.epoch,
        batch.first_number,
        batch.number,
        batch.instance,
        batch.name,
        batch.region,
        batch.sealed_at,
        batch.until,
        len(batch.rows),
        list(places)[1:],
        batch.losses,
    ]
    packed = zlib.compress(b"".join(rows), 1)
    return b"%b%b\n%b" % (_MAGIC, json.dumps(line, separators=(",", ":")).encode(), packed)


def decode(content: bytes) -> UsageBatch:
    """Raises UsageError."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"a batch of usage has at most {MAX_BYTES} bytes")
    if content[: len(_MAGIC)] != _MAGIC:
        raise UsageError("not a batch of usage: origin and edge are of different versions")
    end = content.find(b"\n", 0, _MAX_LINE)
    try:
        line = json.loads(content[len(_MAGIC) : end]) if end >= 0 else None
    except (ValueError, RecursionError):
        line = None
    match line:
        case [
            str(deployment), str(epoch), int(first), int(number), str(instance), str(name), str(region), int(sealed_at),
            int(until), int(count), list(texts), list(losses)
        ] if (
            _DEPLOYMENT.fullmatch(deployment) and _EPOCH.fullmatch(epoch)
            and is_edge(instance, name, region) and _are_texts(texts)
            and _is_range(first, number) and _is_moment(sealed_at) and _is_moment(until)
            and type(count) is int and 0 <= count <= MAX_ROWS and len(losses) <= MAX_LOSSES
        ):  # fmt: skip
            rows = _rows(content[end + 1 :], count, [None, *texts])
            told = tuple(_loss(one) for one in losses)
            if first != number and (rows or not told):
                raise UsageError("the batch stands for others, and does not say what was lost")
            return UsageBatch(
                deployment, epoch, first, number, instance, name, region, sealed_at, until, tuple(rows), told
            )
    raise UsageError("the batch of usage is of another shape")


def digest_of(content: bytes) -> bytes:
    """The last part of a batch's name: 32 bytes."""
    return hashlib.sha256(content).digest()


def is_edge(instance: str, name: str, region: str) -> bool:
    """Whether these are an edge's, as batches have them."""
    return bool(_INSTANCE.fullmatch(instance) and _NAME.fullmatch(name) and (not region or _NAME.fullmatch(region)))


def is_key_id(text: str) -> bool:
    """Whether a row can have this key."""
    return _KEY_ID.fullmatch(text) is not None


def is_text(text: str) -> bool:
    """Whether a row can have this as a scope, a route or an address."""
    return _TEXT.fullmatch(text) is not None


def _rows(packed: bytes, count: int, texts: list[str | None]) -> list[UsageRow]:
    size = count * _ROW.size
    inflate = zlib.decompressobj()
    try:
        # One more than there should be: what is larger is not unpacked to see how large.
        data = inflate.decompress(packed, size + 1)
    except zlib.error:
        raise UsageError("the rows of the batch can't be unpacked") from None
    if len(data) != size or not inflate.eof or inflate.unused_data:
        raise UsageError("the rows of the batch are of another length")
    return [_row(fields, texts) for fields in _ROW.iter_unpack(data)]


def _row(fields: tuple[Any, ...], texts: list[str | None]) -> UsageRow:
    hour, bucket, consumer, key, plan, *at, total, first, last = fields
    try:
        verdict, scope, route, address = (texts[place] for place in at)
        key_id = key.rstrip(b"\x00").decode("ascii")
    except (IndexError, UnicodeDecodeError):
        raise UsageError("a row of the batch can't be read") from None
    if not (
        hour <= _MAX_HOUR and 1 <= total <= MAX_COUNT and first <= last < HOUR_MILLIS and consumer <= MAX_NUMBER + 1
        and verdict is not None and _VERDICT.fullmatch(verdict) and bool(key_id) is bool(consumer)
        and (not key_id or _KEY_ID.fullmatch(key_id))
    ):  # fmt: skip
        raise UsageError("a row of the batch tells what can't be")
    return UsageRow(
        hour, bucket, consumer - 1 if consumer else None, key_id or None, verdict, plan - 1 if plan else None, scope,
        route, total, first, last, address
    )  # fmt: skip


def _loss(told: object) -> Loss:
    match told:
        case [
            str(epoch),
            int() | None as first,
            int() | None as number,
            int() | None as lost,
            int(since),
            int(until),
            str(reason),
        ] if (
            _EPOCH.fullmatch(epoch)
            and ((first is None and number is None) or _is_range(first, number))
            and (lost is None or (type(lost) is int and 0 <= lost <= MAX_COUNT))
            and _is_moment(since)
            and _is_moment(until)
            and reason in _REASONS
        ):
            return Loss(epoch, first, number, lost, since, until, LossReason(reason))
    raise UsageError("the batch tells of a loss that can't be")


def _are_texts(texts: list[Any]) -> bool:
    return len(texts) <= MAX_TEXTS and all(isinstance(text, str) and is_text(text) for text in texts)


def _is_range(first: object, number: object) -> bool:
    # To Python a bool is an int.
    return type(first) is int and type(number) is int and 1 <= first <= number <= MAX_NUMBER


def _is_moment(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_MILLIS
