"""Owns taking what a good answer takes: one of each rate limit of the key and its consumer, and units of each quota.

All are looked at, then all are taken, or none. Where something can't be counted there is no answer: a key is never good
without being counted. What a quota is and who lends it is told by a QuotaTaker.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from keywright.domain import verdict
from keywright.domain.limit_states import LimitState
from keywright.domain.limits import LimitScope
from keywright.domain.powers import NO_POWERS
from keywright.domain.verdict import Lack, Lacking, Reserved, Result, Verdict
from keywright.edge.limits.table import Asked, consumer_limit_id, key_limit_id
from keywright.http.sparing_log import SparingLog
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.domain.limits import RateLimit
    from keywright.domain.powers import Demand, Powers
    from keywright.domain.reservations import Reservation
    from keywright.domain.verdict import ConsumerRecord, KeyRecord
    from keywright.edge.limits.gcra import Standing
    from keywright.edge.limits.table import LimitTable

_log = logging.getLogger(__name__)

_new = tuple.__new__
HOLDERS_KEPT = 20_000
"""Of so many keys one process keeps which limits hold for them, some 500 bytes each."""
States = tuple[LimitState, ...]
Limits = tuple[tuple[Asked, ...], tuple["RateLimit", ...]]


class Taken(NamedTuple):
    """What became of a question's cost: VALID, QUOTA_EXCEEDED, or UNAVAILABLE because of what lacks.

    `is_in_vain`: nobody will say soon whether there is more of one of them.
    """

    verdict: Verdict
    states: States
    lacks: tuple[Lack, ...] = ()
    is_in_vain: bool = False
    reservation: Reservation | None = None


class QuotaTaker(Protocol):
    """Who knows what is lent to this machine of quotas."""

    def take(self, key: KeyRecord, consumer: ConsumerRecord, demand: Demand, *, overspends: bool = False) -> Taken:
        """Take the question's cost of all quotas of the consumer, or of none; of none at all if it is a peek.

        With `overspends` what lacks is served all the same. Called with a part of the table of rate limits locked, so
        it must be quick.
        """
        ...

    def has_changed(self, lack: Lack) -> bool:
        """Whether it is worth asking again."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


class Takers:
    """May be shared by threads."""

    def __init__(self, table: LimitTable, quotas: QuotaTaker | None = None) -> None:
        """Without `quotas` no key that has some is good here."""
        self.table = table
        self.quotas = quotas
        self.waits: Counter[str] = Counter()
        """Questions that waited for quotas, by what they came to."""
        self._spoken = SparingLog(_log, Clock().elapsed)

    def take(self, key: KeyRecord, consumer: ConsumerRecord, demand: Demand, *, overspends: bool = False) -> Result:
        """The verdict on a key that is good but for its limits: Lacking where quotas must be lent first.

        With `overspends` it is good all the same, which is counted.
        """
        own, above = key.powers or NO_POWERS, consumer.powers or NO_POWERS
        if above.quotas and self.quotas is None:
            self._spoken.note(f"nobody counts quotas here: no key of consumer {consumer.consumer_id} is answered for")
            return verdict.UNAVAILABLE
        try:
            return self._take(key, consumer, own, above, demand, overspends)
        except (OSError, ValueError) as error:
            self._spoken.note(f"keys with limits get no answer, as they can't be counted: {error}", logging.ERROR)
            return verdict.UNAVAILABLE

    def close(self) -> None:
        """Let go of the files. Whoever asks again opens them again."""
        self.table.close()
        if self.quotas is not None:
            self.quotas.close()

    def has_changed(self, lack: Lack) -> bool:
        """Whether it is worth asking again."""
        try:
            return self.quotas is None or self.quotas.has_changed(lack)
        except (OSError, ValueError):
            # Asked again, it is said.
            return True

    def _take(
        self, key: KeyRecord, consumer: ConsumerRecord, own: Powers, above: Powers, demand: Demand, overspends: bool
    ) -> Result:
        asked, limits = _limits_of(key.consumer_number, key.key_id, own, above)
        if not above.quotas or self.quotas is None:
            fits, stands = self.table.take(asked, is_peek=demand.is_peek)
            states = _states(limits, stands, has_fit=fits)
            return Result(Verdict.VALID, key, consumer, states) if fits else Result(Verdict.RATE_LIMITED, limits=states)
        quotas = self.quotas
        told: list[Taken] = []

        def take_quotas() -> bool:
            told.append(quotas.take(key, consumer, demand, overspends=overspends))
            return told[0].verdict is Verdict.VALID

        if asked:
            fits, stands = self.table.take(asked, is_peek=demand.is_peek, agree=take_quotas)
        else:
            fits, stands = take_quotas(), []
        if not told:
            return Result(Verdict.RATE_LIMITED, limits=_states(limits, stands, has_fit=False))
        code, of_quotas, *_ = told[0]
        if code is Verdict.UNAVAILABLE:
            lacking = Lacking(code)
            lacking.lacks, lacking.is_in_vain = told[0].lacks, told[0].is_in_vain
            return lacking
        states = _states(limits, stands, has_fit=True) + of_quotas
        if not fits:
            return Result(code, limits=states)
        reservation = told[0].reservation
        if reservation is None:
            return Result(code, key, consumer, states)
        reserved = Reserved(code, key, consumer, states)
        reserved.reservation, reserved.token = reservation, ""
        return reserved


# What holds follows from the arguments alone; of the same powers there is one object.
@lru_cache(maxsize=HOLDERS_KEPT)
def _limits_of(consumer_number: int, key_id: str, own: Powers, above: Powers) -> Limits:
    """The rate limits of the consumer, then those of the key."""
    shared, of_key = above.rate_limits or (), own.rate_limits or ()
    ids = [
        *(consumer_limit_id(consumer_number, limit.name) for limit in shared),
        *(key_limit_id(consumer_number, key_id, limit.name) for limit in of_key),
    ]
    limits = (*shared, *of_key)
    asked = [
        Asked(id, limit.limit, limit.window_seconds, limit.scope is LimitScope.GLOBAL)
        for id, limit in zip(ids, limits, strict=True)
    ]
    return tuple(asked), limits


def _states(limits: Sequence[RateLimit], stands: Sequence[Standing], *, has_fit: bool) -> States:
    states = []
    for limit, stand in zip(limits, stands, strict=True):
        wait = 0 if has_fit else stand.seconds_until(1)
        told = (limit.name, limit.limit, limit.window_seconds, stand.remaining, stand.reset_seconds, wait > 0, wait)
        states.append(_new(LimitState, told))
    return tuple(states)
