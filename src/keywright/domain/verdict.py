"""Owns the judgement of a key: the closed set of verdicts, and the only place where one is reached."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from keywright.domain.powers import NO_DEMAND, NO_POWERS, Demand, Powers, is_from_allowed, is_granted


class Verdict(StrEnum):
    """The outcome of a validation. A key of another bucket is UNKNOWN: anything else would tell that it exists."""

    VALID = "VALID"
    MALFORMED = "MALFORMED"
    UNKNOWN = "UNKNOWN"
    DISABLED = "DISABLED"
    EXPIRED = "EXPIRED"
    IP_NOT_ALLOWED = "IP_NOT_ALLOWED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
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


class Result(NamedTuple):
    """A verdict and, when it is VALID, whose key it is; `key` and `consumer` are None for every other verdict."""

    verdict: Verdict
    key: KeyRecord | None = None
    consumer: ConsumerRecord | None = None

    @property
    def is_valid(self) -> bool:
        return self.verdict is Verdict.VALID


MALFORMED = Result(Verdict.MALFORMED)
UNKNOWN = Result(Verdict.UNKNOWN)
DISABLED = Result(Verdict.DISABLED)
EXPIRED = Result(Verdict.EXPIRED)
IP_NOT_ALLOWED = Result(Verdict.IP_NOT_ALLOWED)
INSUFFICIENT_SCOPE = Result(Verdict.INSUFFICIENT_SCOPE)
NO_BUCKET = Result(Verdict.NO_BUCKET)
UNAVAILABLE = Result(Verdict.UNAVAILABLE)


def decide(key: KeyRecord | None, consumer: ConsumerRecord | None, now: int, demand: Demand = NO_DEMAND) -> Result:
    """Judge a key by its records at `now` (milliseconds since the epoch), in the order of the verdicts.

    A key whose consumer is gone is UNKNOWN: deleting a consumer is one change that ends all its keys. A key is good
    until, and not including, the millisecond at which it expires.
    """
    if key is None or consumer is None:
        return UNKNOWN
    if key.powers is None and consumer.powers is None and not demand.scopes:
        # Nearly every key: nothing else is asked of it, and nothing else said.
        expires_at = key.expires_at
        return EXPIRED if expires_at is not None and now >= expires_at else Result(Verdict.VALID, key, consumer)
    return _decide_by_powers(key, consumer, now, demand)


def _decide_by_powers(key: KeyRecord, consumer: ConsumerRecord, now: int, demand: Demand) -> Result:
    own, above = key.powers or NO_POWERS, consumer.powers or NO_POWERS
    if not (own.is_enabled and above.is_enabled):
        return DISABLED
    if key.expires_at is not None and now >= key.expires_at:
        return EXPIRED
    if not is_from_allowed(own, above, demand):
        return IP_NOT_ALLOWED
    if demand.scopes and not is_granted(own, above, demand.scopes):
        return INSUFFICIENT_SCOPE
    return Result(Verdict.VALID, key, consumer)
