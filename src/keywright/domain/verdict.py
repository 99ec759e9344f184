"""Owns the judgement of a key: the closed set of verdicts, and the only place where one is reached."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.powers import NO_DEMAND, NO_POWERS, Demand, Powers, is_granted

if TYPE_CHECKING:
    from keywright.domain.limit_states import LimitState
    from keywright.domain.reservations import Reservation


class Verdict(StrEnum):
    """The outcome of a validation. A key of another bucket is UNKNOWN: anything else would tell that it exists."""

    VALID = "VALID"
    MALFORMED = "MALFORMED"
    UNKNOWN = "UNKNOWN"
    DISABLED = "DISABLED"
    EXPIRED = "EXPIRED"
    IP_NOT_ALLOWED = "IP_NOT_ALLOWED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    NO_BUCKET = "NO_BUCKET"
    """There is no such bucket: the question was wrong, not the key."""
    UNAVAILABLE = "UNAVAILABLE"
    """This replica can't say: it has no snapshot yet, or is further behind than the bucket's owner allows. Never a no:
    the caller answers 503, not 401.
    """


class KeyRecord(NamedTuple):
    """What a replica knows of a key. `expires_at` is in milliseconds since the epoch, None for never."""

    key_id: str
    consumer_number: int
    expires_at: int | None
    powers: Powers | None = None


class ConsumerRecord(NamedTuple):
    """What a replica knows of a consumer. `metadata` is a JSON object, encoded."""

    consumer_id: str
    name: str
    metadata: bytes
    powers: Powers | None = None


_new = tuple.__new__


class Result(NamedTuple):
    """A verdict and, when it is VALID, whose key it is; `key` and `consumer` are None for every other verdict.

    `limits` is how those stand that hold for the key, where it came to them: after what a VALID has taken.
    """

    verdict: Verdict
    key: KeyRecord | None = None
    consumer: ConsumerRecord | None = None
    limits: tuple[LimitState, ...] = ()

    @property
    def is_valid(self) -> bool:
        return self.verdict is Verdict.VALID


class Reserved(Result):
    """A VALID that took what may be given back."""

    reservation: Reservation
    token: str
    """By which it is settled: who asked has only that."""


class Lack(NamedTuple):
    """A quota of which too little is lent to a machine: what it is called there, and how it stood."""

    id: bytes
    seen: tuple[int, int, int]
    is_heard: bool
    """Whether somebody heard that it is lacking."""


class Lacking(Result):
    """No answer yet: units of quotas are lacking, which may be lent in a moment. Who can't wait takes it for what it
    is, UNAVAILABLE.
    """

    lacks: tuple[Lack, ...]
    is_in_vain: bool
    """Whether nobody will say soon whether there is more."""


MALFORMED = Result(Verdict.MALFORMED)
UNKNOWN = Result(Verdict.UNKNOWN)
DISABLED = Result(Verdict.DISABLED)
EXPIRED = Result(Verdict.EXPIRED)
IP_NOT_ALLOWED = Result(Verdict.IP_NOT_ALLOWED)
INSUFFICIENT_SCOPE = Result(Verdict.INSUFFICIENT_SCOPE)
NO_BUCKET = Result(Verdict.NO_BUCKET)
UNAVAILABLE = Result(Verdict.UNAVAILABLE)


def decide(key: KeyRecord | None, consumer: ConsumerRecord | None, now: int, demand: Demand = NO_DEMAND) -> Result:  # noqa: PLR0911
    """Judge a key by its records at `now` (milliseconds since the epoch), in the order of the verdicts.

    Limits come last, and are not looked at here: who counts them is asked about a key that is VALID without.

    A key whose consumer is gone is UNKNOWN: deleting a consumer is one change that ends all its keys. A key is good
    until, and not including, the millisecond at which it expires.
    """
    if key is None or consumer is None:
        return UNKNOWN
    _, _, expires_at, own = key
    _, _, _, above = consumer
    scopes, address, _, _, _, _ = demand
    if own is not None or above is not None or scopes:
        # In one piece: a call that is saved here is one for each validation.
        own, above = own or NO_POWERS, above or NO_POWERS
        if not (own.is_enabled and above.is_enabled):
            return DISABLED
        if expires_at is not None and now >= expires_at:
            return EXPIRED
        here, there = own.networks, above.networks
        if here is not None or there is not None:
            if callable(address):
                address = address()
            # One that is not known is in no network.
            if address is None or not ((here is None or here.hold(address)) and (there is None or there.hold(address))):
                return IP_NOT_ALLOWED
        if scopes and not is_granted(own, above, scopes):
            return INSUFFICIENT_SCOPE
    elif expires_at is not None and now >= expires_at:
        return EXPIRED
    # As Result(...) does it, in half of the time.
    return _new(Result, (Verdict.VALID, key, consumer, ()))
