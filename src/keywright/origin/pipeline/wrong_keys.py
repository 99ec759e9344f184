"""Owns the throttling of wrong management keys: who guesses is slowed down, by address, before the guess is judged.

What makes a guess is that the key is new: it was not judged lately. So a client that goes on with a key that was
revoked, and everybody with a good one, is judged as ever, also behind one address with somebody who guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keywright.domain.problems import Unauthorized
from keywright.http.client_address import network_of
from keywright.origin.pipeline.rate_limit import RateLimiter, check_rate

MAX_JUDGED = 10_000
DETAIL = "Too many wrong management keys from your address: try again in {seconds} s."


class WrongKeys:
    """Counted in this process: with several workers, each of them has its own. At 0 a minute nothing is counted."""

    def __init__(self, per_minute: float) -> None:
        self._limiter = RateLimiter(per_minute / 60, burst=per_minute)
        self._judged: dict[bytes, None] = {}
        """Digests that were judged lately, right or wrong; of too many, the first to come are forgotten."""

    @contextmanager
    def judging(self, address: str, digest: bytes) -> Iterator[None]:
        """Around the judgement of a key. Raises TooManyRequests instead of it, for a new key from who guesses."""
        if digest in self._judged:
            yield
            return
        name = network_of(address)
        # Counted before it is judged: of many that are sent at once, none comes for free.
        check_rate(self._limiter, name, DETAIL)
        try:
            yield
        except Unauthorized:
            self._remember(digest)
            raise
        except BaseException:
            self._limiter.give_back(name)
            raise
        self._limiter.give_back(name)
        self._remember(digest)

    def _remember(self, digest: bytes) -> None:
        if len(self._judged) >= MAX_JUDGED:
            del self._judged[next(iter(self._judged))]
        self._judged[digest] = None
