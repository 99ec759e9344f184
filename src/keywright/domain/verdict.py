"""Owns the judgement of a key: the closed set of verdicts, and the only place where one is reached."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """The outcome of a validation. A key of another bucket is UNKNOWN: anything else would tell that it exists."""

    VALID = "VALID"
    MALFORMED = "MALFORMED"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
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


class ConsumerRecord(NamedTuple):
    """What a replica knows of a consumer. `metadata` is a JSON object, encoded."""

    consumer_id: str
    name: str
    metadata: bytes


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
EXPIRED = Result(Verdict.EXPIRED)
NO_BUCKET = Result(Verdict.NO_BUCKET)
UNAVAILABLE = Result(Verdict.UNAVAILABLE)


def decide(key: KeyRecord | None, consumer: ConsumerRecord | None, now: int) -> Result:
    """Judge a key by its records at `now` (milliseconds since the epoch).

    A key whose consumer is gone is UNKNOWN: deleting a consumer is one change that ends all its keys. A key is good
    until, and not including, the millisecond at which it expires.
    """
    if key is None or consumer is None:
        return UNKNOWN
    expires_at = key.expires_at
    if expires_at is not None and now >= expires_at:
        return EXPIRED
    return Result(Verdict.VALID, key, consumer)
