"""Owns the way of a batch of usage to the origin: a delivery, signed by its sender, and the answer to that very one.

The sender may be another edge than the one that counted: the same on another host, or a copy. What counts is the
batch's name (usage.py), and what the sender may see. Beside a batch, or alone, it tells up to when everything that its
edge counted was taken.

Written: `kwu1`, the MAC (32 bytes, HMAC-SHA-256 under a key derived from the pepper), a JSON array in one line, then
the batch's content. An answer is the same without content, under a MAC for that delivery and its nonce, so that nobody
else can say that counts were taken, and no old answer that some are missing.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from keywright.domain.keyformat import Digester
from keywright.protocol import usage
from keywright.protocol.usage import UsageError

FORMAT_VERSION = 1
"""Goes up when an older reader could misunderstand a delivery or an answer."""
MEDIA_TYPE = "application/vnd.keywright.usage"
LONGEST_PAUSE_SECONDS = 60.0

WISHES_QUESTION = b"kwq1"
"""In the place of a batch: what the origin wishes to be told. One that knows no wishes refuses it, as it does any batch
that is none.
"""
MOST_RECORDING = 5_000
"""So many buckets record addresses, those with the lowest numbers."""

_MAGIC = b"kwu%d" % FORMAT_VERSION
_HEAD_BYTES = len(_MAGIC) + 32
_MAX_LINE = 1024
MAX_BYTES = _HEAD_BYTES + _MAX_LINE + usage.MAX_BYTES
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright edge usage\x00 1"
_DELIVERY, _ANSWER = b"delivery", b"answer"
_NONCE = re.compile(r"[0-9a-f]{32}")
_MAX_MILLIS = 10**14
_MAX_DETAIL = 300


class Outcome(StrEnum):
    """What became of a delivery."""

    TAKEN = "taken"
    """The batch counts, now or since it came before: it need not be kept any more. Or there was none."""
    GAP = "gap"
    """The origin waits for an earlier number of the epoch: `next_number`."""
    CONFLICT = "conflict"
    """Another batch of this number was taken before: this one is lost, and the epoch should not be gone on with."""
    REFUSED = "refused"
    """It can't be taken, now or later: it is another deployment's, or no batch. `detail` says why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """`instance`, `name` and `region` are the sender's. `known_until` is the moment (milliseconds since the epoch) up
    to which everything that its edge counted was taken before this was sent, or was lost and is said; None if it can't
    tell. `content` is a batch, b"" for none. `nonce` is 32 hexadecimal digits, drawn anew for each.
    """

    instance: str
    name: str
    region: str
    nonce: str
    known_until: int | None
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """`next_number` is what is taken next of the batch's epoch, `lost` how many counts of this batch were not taken,
    and `detail` says why, or why nothing was. So many seconds later the next delivery is welcome.
    """

    outcome: Outcome
    next_number: int = 1
    lost: int = 0
    pause_seconds: float = 0.0
    detail: str = ""


class UsageSigner:
    """Writes and reads both under the key of one deployment."""

    def __init__(self, digester: Digester) -> None:
        self._key = digester.digest(_KEY_LABEL)

    def encode_delivery(self, delivery: Delivery) -> bytes:
        line = _line(delivery.instance, delivery.name, delivery.region, delivery.nonce, delivery.known_until)
        return self._signed(_DELIVERY, line + delivery.content)

    def decode_delivery(self, data: bytes) -> Delivery:
        """The batch in it is not read. Raises UsageError."""
        row, content = self._read(data, _DELIVERY)
        match row:
            case [str(instance), str(name), str(region), str(nonce), int() | None as known_until] if (
                usage.is_edge(instance, name, region)
                and _NONCE.fullmatch(nonce)
                and (known_until is None or (type(known_until) is int and 0 <= known_until <= _MAX_MILLIS))
            ):
                return Delivery(instance, name, region, nonce, known_until, content)
        raise UsageError("the delivery is of another shape")

    def encode_wishes(self, recording: Iterable[int], delivery: Delivery) -> bytes:
        """The answer to WISHES_QUESTION: the numbers of buckets that record addresses."""
        numbers = json.dumps(sorted(recording)[:MOST_RECORDING], separators=(",", ":")).encode()
        return self._signed(_wishes_for(delivery), _line("recordAddresses") + numbers)

    def decode_wishes(self, data: bytes, delivery: Delivery) -> frozenset[int] | None:
        """What is wished; None where it is an ordinary answer, of an origin that knows no wishes. Raises UsageError."""
        try:
            row, rest = self._read(data, _wishes_for(delivery))
        except UsageError:
            self.decode_answer(data, delivery)
            return None
        try:
            numbers = json.loads(rest) if row == ["recordAddresses"] else None
        except (ValueError, RecursionError):
            numbers = None
        if (
            not isinstance(numbers, list)
            or len(numbers) > MOST_RECORDING
            or not all(type(one) is int for one in numbers)
        ):
            raise UsageError("the wishes are of another shape")
        return frozenset(numbers)

    def encode_answer(self, answer: UsageAnswer, delivery: Delivery) -> bytes:
        detail = answer.detail[:_MAX_DETAIL]
        line = _line(answer.outcome, answer.next_number, answer.lost, answer.pause_seconds, detail)
        return self._signed(_answer_to(delivery), line)

    def decode_answer(self, data: bytes, delivery: Delivery) -> UsageAnswer:
        """What was answered to that delivery. Raises UsageError."""
        row, rest = self._read(data, _answer_to(delivery))
        match row:
            case [str(outcome), int(number), int(lost), int() | float() as pause, str(detail)] if (
                outcome in _OUTCOMES
                and type(number) is int
                and 1 <= number <= usage.MAX_NUMBER + 1
                and type(lost) is int
                and lost >= 0
                and not isinstance(pause, bool)
                and math.isfinite(pause)
                and 0 <= pause <= LONGEST_PAUSE_SECONDS
                and not rest
            ):
                return UsageAnswer(Outcome(outcome), number, lost, float(pause), detail)
        raise UsageError("the answer is of another shape")

    def _signed(self, label: bytes, body: bytes) -> bytes:
        return b"%b%b%b" % (_MAGIC, self._mac(label, body), body)

    def _read(self, data: bytes, label: bytes) -> tuple[object, bytes]:
        if len(data) > MAX_BYTES:
            raise UsageError(f"a delivery of usage has at most {MAX_BYTES} bytes")
        if data[: len(_MAGIC)] != _MAGIC:
            raise UsageError("not a delivery of usage: origin and edge are of different versions")
        body = data[_HEAD_BYTES:]
        if not hmac.compare_digest(data[len(_MAGIC) : _HEAD_BYTES], self._mac(label, body)):
            raise UsageError("the delivery was not made by this deployment, or not for this")
        end = body.find(b"\n", 0, _MAX_LINE)
        if end < 0:
            raise UsageError("the delivery can't be read")
        try:
            return json.loads(body[:end]), body[end + 1 :]
        except (ValueError, RecursionError):
            raise UsageError("the delivery can't be read") from None

    def _mac(self, label: bytes, body: bytes) -> bytes:
        # The label's length stands before it, so that no other label and body make the same text.
        return hmac.digest(self._key, b"%c%b%b" % (len(label), label, body), "sha256")


_OUTCOMES = frozenset(Outcome)


def _answer_to(delivery: Delivery) -> bytes:
    return b"%b/%b/%b" % (_ANSWER, delivery.instance.encode(), delivery.nonce.encode())


def _wishes_for(delivery: Delivery) -> bytes:
    return b"wishes/%b/%b" % (delivery.instance.encode(), delivery.nonce.encode())


def _line(*row: object) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
