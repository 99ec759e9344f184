"""Owns how many may read at once, so that no tenant's readers keep another tenant from what both need.

A snapshot holds a transaction, and with it the database's old rows, for as long as its reader takes; a stream of
changes costs heartbeats. Counted in this process: with several workers, each of them has its own places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from keywright.domain.problems import ServiceUnavailable, TooManyRequests

SNAPSHOTS_AT_ONCE = 8
SNAPSHOTS_OF_ACCOUNT = 4
RETRY_SECONDS = 5


class SnapshotPlaces:
    """Of SNAPSHOTS_AT_ONCE places an account has as many as SNAPSHOTS_OF_ACCOUNT, while that leaves half of them free.

    The other half is for accounts that have none yet, a place for each.
    """

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, account: str) -> Iterator[None]:
        """A place for a reader of this account. Raises ServiceUnavailable."""
        total, own = self._taken.total(), self._taken[account]
        most = SNAPSHOTS_AT_ONCE if own == 0 else SNAPSHOTS_AT_ONCE // 2
        if total >= most or own >= SNAPSHOTS_OF_ACCOUNT:
            detail = "As many snapshots as may be are under way, or as many of them are yours as may be."
            raise ServiceUnavailable(detail, headers={"Retry-After": str(RETRY_SECONDS)})
        with _counted(self._taken, account):
            yield


class StreamPlaces:
    """At most so many streams of changes for one token."""

    def __init__(self, of_token: int) -> None:
        self._of_token = of_token
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, token_id: str) -> Iterator[None]:
        """A place for a reader with this token. Raises TooManyRequests."""
        if self._taken[token_id] >= self._of_token:
            detail = (
                f"At most {self._of_token} streams are open at once for one token; give each edge a token of its own."
            )
            raise TooManyRequests(detail, headers={"Retry-After": str(RETRY_SECONDS)})
        with _counted(self._taken, token_id):
            yield


@contextmanager
def _counted(taken: Counter[str], name: str) -> Iterator[None]:
    taken[name] += 1
    try:
        yield
    finally:
        taken[name] -= 1
        if not taken[name]:
            del taken[name]
