"""Owns how an edge asks the origin for blocks of quotas, and how it is answered: in bytes, and that both are genuine.

One question holds many asks, each of one quota of one consumer: what this edge spent of its lease there, what it gives
back of it, and how much it would like to hold. Numbers of a lease only ever grow, so that a question which was lost, or
whose answer was, is made good by the next one; nothing is ever asked "again". The answer has a loan for each ask, in
order. How much is lent is in origin/quotas/ledger.py, how it is spent in edge/quotas/.

Written: `kwq1` (question) or `kwl1` (answer), a MAC (32 bytes), a JSON array in one line. The MAC is HMAC-SHA-256 under
a key derived from the deployment's pepper, as a report's is (reports.py); an answer's is made for that very question.
`start` counts the starts of an edge, on its own disk, and `number` the questions of one: refused is what is not later
than what was answered, and so is an edge whose disk was set back to an older copy. `place` is what the edge last heard
of the ledger: each answer has a new one, so that a record which went back to before it is found out.

Times of the record are milliseconds since the epoch by the origin's clock. A lease's life is a number of milliseconds
instead, counted from before the question was asked, so that no edge needs that clock. Refused is what is anything else,
with LeaseError.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TypeVar

from keywright.domain.keyformat import Digester
from keywright.domain.limits import MAX_UNITS, is_name

FORMAT_VERSION = 1
"""Goes up when an older reader could misunderstand a question or an answer."""
MAX_ASKS = 500
MAX_QUESTION_BYTES = 96 * 1024
MAX_ANSWER_BYTES = 128 * 1024
LEASE_MILLIS = 60_000
"""A lease lives no longer, unless it is renewed."""
MEMORY_MILLIS = 30 * 86_400_000
"""An edge that heard nothing for so long names no place: the record may have forgotten it, too."""

_T = TypeVar("_T")
_QUESTION, _ANSWER = b"kwq%d" % FORMAT_VERSION, b"kwl%d" % FORMAT_VERSION
_HEAD_BYTES = len(_QUESTION) + 32
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright quota leases\x00 1"
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
_DEPLOYMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLACE = re.compile(r"(?:[0-9a-f]{32})?")
_MOST = 10**18
"""What a column of eight bytes can hold, sums of several included."""


class LeaseError(ValueError):
    """Not a question, or not an answer to it, of this deployment; the message says what is wrong with it."""


class Outcome(StrEnum):
    """What became of an ask."""

    LENT = "lent"
    """The lease is renewed, and what it lacks is added as far as there is any."""
    RECALLED = "recalled"
    """More is lent than the limit allows by now: the lease is not renewed, what is left of it is to be given back."""
    AWAY = "away"
    """What was lent before is renewed; no more is, since the record went back to an earlier state."""
    CLOSED = "closed"
    """What the lease had is accounted for: it is no more."""
    UNKNOWN = "unknown"
    """There is no such quota, or not for this edge. What was told of its lease was taken down."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What an edge says of one quota of one consumer, and wants of it.

    `lease` is 0 while it has none. `spent` and `returned` are sums since that lease began; what of `spent` was beyond
    the lease (in buckets that serve while the origin is away) is in `overspent` alone. It would like to hold `want`
    units, and has requests waiting that need it to hold `need`. `is_last` gives back all that is left and ends the
    lease.
    """

    consumer_number: int
    quota: str
    lease: int = 0
    spent: int = 0
    returned: int = 0
    overspent: int = 0
    want: int = 0
    need: int = 0
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """`cursor` is where the edge's replica is, as text; "" before its first snapshot. `place` is "" for none.

    `is_whole`: of leases that earlier starts had, all of which something was spent are accounted for, here or before.
    So the others were lent in answers that nobody heard.
    """

    deployment_id: str
    instance: str
    start: int
    number: int
    place: str
    cursor: str
    is_whole: bool
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Loan:
    """The state of a lease: `granted` units in all since it began, to be spent for `life_millis` more.

    `lease` is 0 where there is none. `free` units nobody holds. The period is told by times of the origin; `ends_at`
    None: it never ends.
    """

    outcome: Outcome
    lease: int = 0
    granted: int = 0
    life_millis: int = 0
    begins_at: int = 0
    ends_at: int | None = None
    limit: int = 0
    free: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    place: str
    loans: tuple[Loan, ...]


class LeaseSigner:
    """Writes and reads questions and answers under the key of one deployment."""

    def __init__(self, digester: Digester) -> None:
        self._key = digester.digest(_KEY_LABEL)

    def encode_question(self, question: Question) -> bytes:
        return self._sealed(_QUESTION, list(astuple(question)), b"")

    def decode_question(self, data: bytes) -> Question:
        """Raises LeaseError."""
        return _checked(_read_question, self._opened(_QUESTION, data, MAX_QUESTION_BYTES, b""))

    def encode_answer(self, question: bytes, answer: Answer) -> bytes:
        """The answer to a question, which is given as it came."""
        return self._sealed(_ANSWER, [answer.place, [astuple(loan) for loan in answer.loans]], question)

    def decode_answer(self, question: bytes, data: bytes) -> Answer:
        """The answer to the question that was sent as these bytes. Raises LeaseError."""
        return _checked(_read_answer, self._opened(_ANSWER, data, MAX_ANSWER_BYTES, question))

    def _sealed(self, magic: bytes, row: list[object], about: bytes) -> bytes:
        said = json.dumps(row, separators=(",", ":")).encode()
        return b"%b%b%b" % (magic, self._mac(magic, said, about), said)

    def _opened(self, magic: bytes, data: bytes, most: int, about: bytes) -> object:
        if len(data) > most:
            raise LeaseError(f"it has more than {most} bytes")
        if data[: len(magic)] != magic:
            raise LeaseError("it is of another format: origin and edge are of different versions")
        said = data[_HEAD_BYTES:]
        if not hmac.compare_digest(data[len(magic) : _HEAD_BYTES], self._mac(magic, said, about)):
            raise LeaseError("it was not made by this deployment, or not for this question, or changed on its way")
        try:
            row: object = json.loads(said)
        except (ValueError, RecursionError):
            raise LeaseError("it can't be read") from None
        return row

    def _mac(self, magic: bytes, said: bytes, about: bytes) -> bytes:
        # The question stands in as its digest, of one length: nothing of it can be taken for a part of the answer.
        of = hmac.digest(self._key, about, "sha256") if about else b""
        return hmac.digest(self._key, magic + of + said, "sha256")


def _checked(read: Callable[[object], _T], row: object) -> _T:
    try:
        return read(row)
    except (TypeError, ValueError) as error:
        raise LeaseError("it is of another shape") from error


def _read_question(row: object) -> Question:
    match row:
        case [
            str(deployment), str(instance), int(start), int(number), str(place), str(cursor), bool(is_whole),
            list(asks),
        ] if (
            _DEPLOYMENT.fullmatch(deployment)
            and _ID.fullmatch(instance)
            and _PLACE.fullmatch(place)
            and len(cursor) <= 100
            and 0 < len(asks) <= MAX_ASKS
        ):  # fmt: skip
            said = tuple(map(_read_ask, asks))
            if len({(ask.consumer_number, ask.quota, ask.lease) for ask in said}) < len(said):
                raise ValueError("one lease twice")
            return Question(deployment, instance, _count(start), _count(number), place, cursor, is_whole, said)
    raise ValueError("not a question")


def _read_ask(row: object) -> Ask:
    match row:
        case [int(consumer), str(quota), int(lease), *units, bool(is_last)] if len(units) == 5 and is_name(quota):
            spent, returned, overspent, want, need = map(_units, units)
            if lease == 0 and (spent or returned or overspent or is_last):
                raise ValueError("spent of no lease")
            return Ask(_count(consumer), quota, _count(lease), spent, returned, overspent, want, need, is_last)
    raise ValueError("not an ask")


def _read_answer(row: object) -> Answer:
    match row:
        case [str(place), list(loans)] if _PLACE.fullmatch(place) and len(loans) <= MAX_ASKS:
            return Answer(place, tuple(map(_read_loan, loans)))
    raise ValueError("not an answer")


def _read_loan(row: object) -> Loan:
    match row:
        case [str(outcome), lease, granted, life, begins_at, ends_at, limit, free]:
            return Loan(
                Outcome(outcome), _count(lease), _count(granted), _count(life), _count(begins_at),
                None if ends_at is None else _count(ends_at), _count(limit), _count(free),
            )  # fmt: skip
    raise ValueError("not a loan")


def _units(value: object) -> int:
    if _count(value) > 2 * MAX_UNITS:
        raise ValueError("more units than there can be")
    return _count(value)


def _count(value: object) -> int:
    # To Python a bool is an int.
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("not a count")
    return value
