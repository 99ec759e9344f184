"""Owns counting validations in the memory of one process: by key, verdict and hour, without a lock.

A validation of a key that was VALID lately costs a look-up and two assignments. Everything that others are told is
exchanged by one thread, which takes what was counted from time to time (sealer.py): a thread that validates only ever
adds to what it has found. What it adds to was exchanged at most a moment before, and is read later than that. That one
addition is not torn apart by another thread is by Python's lock; without it (free-threaded builds) some may be lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from keywright.domain.networks import network_around
from keywright.domain.powers import NO_POWERS, is_granted
from keywright.domain.verdict import Verdict
from keywright.protocol.usage import HOUR_MILLIS, OTHER_ADDRESSES, UsageRow, is_key_id, is_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.domain.powers import Demand
    from keywright.domain.verdict import ConsumerRecord, KeyRecord

_log = logging.getLogger(__name__)

ROUTES_OF_BUCKET = 8
"""Different route tags that are told apart in one bucket, in an hour; others count as OTHER_ROUTES."""
OTHER_ROUTES = "other"
SCOPES_AT_ONCE = 500
"""Different scopes of which it is told that they were denied, until the counts are taken; others count without one."""
NETWORKS_OF_KEY = 1_000
"""Different networks that are told apart of one key, until the counts are taken; more count as one."""
SEEN_KEPT = 100_000
"""Of so many keys it is known in an hour that they were used. Where more are in use, none goes ahead of the rest."""
MOST_COUNTS = 500_000
"""What is yet to be taken has at most so many rows, some 300 bytes each."""
_VALID = Verdict.VALID
_COUNT, _FIRST, _LAST, _POWERS = 0, 1, 2, 3


class Tag(NamedTuple):
    """What is counted together, within an hour: the fields of a UsageRow."""

    bucket_number: int
    consumer_number: int | None
    key_id: str | None
    verdict: str
    plan: int | None
    denied_scope: str | None
    route: str | None
    address: str | None = None


Tally = list[Any]
"""How many, when the first and the last of them was, in milliseconds since the epoch, and the powers of the consumer
whose plan is in the tag. One list, since it is looked at in each validation.
"""


class Counts:
    """What was counted in one hour. `ahead` is what the first use of each key was: it is told before the rest."""

    __slots__ = ("ahead", "good", "hour", "networks", "rows", "scopes")

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self.rows: dict[Tag, Tally] = {}
        self.ahead: dict[Tag, Tally] = {}
        self.good: dict[str, Tally] = {}
        """By key, where the VALID ones are counted that ask for no route."""
        self.scopes: set[str] = set()
        self.networks: dict[str, set[str]] = {}
        """By key, in buckets that record addresses."""


class UsageCounter:
    """One for each process. `count` may be called by any thread, all else by one."""

    def __init__(self, find_bucket_number: Callable[[str], int | None]) -> None:
        """`find_bucket_number` is asked for the number of a bucket in which a key was just judged."""
        self._find_bucket_number = find_bucket_number
        self._hours: dict[int, Counts] = {}
        self.good: dict[str, Tally] = {}
        """By key, where VALID ones are counted now that ask for no route, as long as the consumer's powers are those in
        the tally: the validator adds to it by itself. Never changed but by `take`.
        """
        self.end = 0
        """Until that moment. Until the counts are taken for the first time all takes the longer way."""
        self._seen: set[str | Tag] = set()
        self._seen_hour = 0
        self._routes: dict[int, set[str]] = {}
        """Of the same hour, by bucket."""
        self.recording: frozenset[int] = frozenset()
        """Numbers of the buckets that record addresses: set by whoever takes."""
        self.missed = 0
        """Validations that found no room to be counted."""

    def count(
        self,
        bucket: str,
        key: KeyRecord | None,
        consumer: ConsumerRecord | None,
        code: Verdict,
        now: int,
        demand: Demand,
    ) -> None:
        """One validation that was this code at `now` (milliseconds since the epoch). `key` and `consumer` are those
        that were judged, whatever the verdict; None for what is no key.
        """
        if now < self.end and code is _VALID and demand.route is None:
            tally = self.good.get(key[0])  # type: ignore[index]
            if tally is not None and tally[_POWERS] is consumer[3]:  # type: ignore[index]
                tally[_COUNT] += 1
                tally[_LAST] = now
                return
        self._count(bucket, key, consumer, code, now, demand)

    def take(self, now: int) -> list[Counts]:
        """What was counted so far. It is read a second later, when nobody adds to it any more."""
        hour = now // HOUR_MILLIS
        taken, current = self._hours, Counts(hour)
        self._hours = {hour: current}
        self.good = current.good
        self.end = (hour + 1) * HOUR_MILLIS
        if hour != self._seen_hour:
            self._seen, self._seen_hour, self._routes = set(), hour, {}
        return [one for one in taken.values() if one.rows or one.ahead]

    def take_ahead(self) -> list[tuple[int, dict[Tag, Tally]]]:
        """Of what was counted so far the first uses, by hour. Read later, as what `take` gives."""
        taken = []
        for counts in list(self._hours.values()):
            ahead, counts.ahead = counts.ahead, {}
            if ahead:
                taken.append((counts.hour, ahead))
        return taken

    def turns_at(self, now: int) -> bool:
        """Whether another hour has begun since the counts were taken."""
        return not self.end - HOUR_MILLIS <= now < self.end

    @property
    def is_empty(self) -> bool:
        return not any(one.rows or one.ahead for one in list(self._hours.values()))

    @property
    def has_ahead(self) -> bool:
        return any(one.ahead for one in list(self._hours.values()))

    @property
    def row_count(self) -> int:
        return sum(len(one.rows) + len(one.ahead) for one in list(self._hours.values()))

    @property
    def seen_count(self) -> int:
        """How many keys were used in this hour, counted to SEEN_KEPT."""
        return len(self._seen)

    def _count(
        self,
        bucket: str,
        key: KeyRecord | None,
        consumer: ConsumerRecord | None,
        code: Verdict,
        now: int,
        demand: Demand,
    ) -> None:
        number = self._find_bucket_number(bucket)
        if number is None:
            return
        hour = now // HOUR_MILLIS
        counts = self._hours.get(hour) or self._hours.setdefault(hour, Counts(hour))
        route = None if demand.route is None else self._route(bucket, number, demand.route)
        tag = _tag(counts, number, key, consumer, code, demand)._replace(route=route)
        is_recorded = number in self.recording and tag.key_id is not None
        if is_recorded:
            tag = tag._replace(address=_network(counts, tag, demand))
        rows = counts.rows
        if tag not in rows:
            # Of the first use nothing is kept by which the next one would be found: that one begins a row of its own.
            if self._is_first(tag, hour):
                rows = counts.ahead
            elif len(rows) >= MOST_COUNTS:
                self.missed += 1
                return
        tally = rows.get(tag)
        if tally is None:
            # Another thread may be at it, too.
            tally = rows.setdefault(tag, [0, now, now, None])
        tally[_COUNT] += 1
        tally[_LAST] = now
        if code is _VALID and rows is counts.rows and demand.route is None and not is_recorded:
            tally[_POWERS] = consumer.powers  # type: ignore[union-attr]
            counts.good[tag.key_id] = tally  # type: ignore[index]

    def _route(self, bucket: str, number: int, route: str) -> str:
        routes = self._routes.setdefault(number, set())
        if route in routes:
            return route
        if len(routes) < ROUTES_OF_BUCKET and is_text(route):
            routes.add(route)
            return route
        if OTHER_ROUTES not in routes:
            # Once an hour: there may be as many as there are requests.
            routes.add(OTHER_ROUTES)
            told = (bucket, ROUTES_OF_BUCKET, OTHER_ROUTES)
            _log.warning("questions about keys of %s name more than %d routes: those beyond count as %s", *told)
        return OTHER_ROUTES

    def _is_first(self, tag: Tag, hour: int) -> bool:
        if tag.key_id is None or hour != self._seen_hour:
            return False
        name = tag.key_id if tag.verdict is _VALID else tag._replace(address=None)
        seen = self._seen
        if name in seen or len(seen) >= SEEN_KEPT:
            return False
        seen.add(name)
        return True


def row_of(hour: int, tag: Tag, tally: Tally) -> UsageRow:
    """The counts of an hour as a row of a batch."""
    start = hour * HOUR_MILLIS
    total, *moments = tally[:_POWERS]
    # Within the hour and in order, whatever the clock did meanwhile.
    first, last = sorted(min(max(moment - start, 0), HOUR_MILLIS - 1) for moment in moments)
    bucket, consumer, key_id, verdict, plan, scope, route, address = tag
    return UsageRow(hour, bucket, consumer, key_id, verdict, plan, scope, route, total, first, last, address)


def _network(counts: Counts, tag: Tag, demand: Demand) -> str | None:
    """From where a question about a known key came, as far as that is known."""
    address = demand.find_address()
    if address is None:
        return None
    network = network_around(address)
    networks = counts.networks.setdefault(tag.key_id or "", set())
    if network not in networks:
        if len(networks) >= NETWORKS_OF_KEY:
            return OTHER_ADDRESSES
        networks.add(network)
    return network


def _tag(
    counts: Counts, number: int, key: KeyRecord | None, consumer: ConsumerRecord | None, code: Verdict, demand: Demand
) -> Tag:
    if key is None or consumer is None or not is_key_id(key.key_id):
        return Tag(number, None, None, code, None, None, None)
    powers = consumer.powers
    scope = None
    if code is Verdict.INSUFFICIENT_SCOPE:
        own, above = key.powers or NO_POWERS, powers or NO_POWERS
        scope = next((one for one in demand.scopes if not is_granted(own, above, (one,))), None)
        if scope is not None and scope not in counts.scopes:
            if len(counts.scopes) < SCOPES_AT_ONCE and is_text(scope):
                counts.scopes.add(scope)
            else:
                scope = None
    plan = None if powers is None else powers.plan
    return Tag(number, key.consumer_number, key.key_id, code, plan, scope, None)
