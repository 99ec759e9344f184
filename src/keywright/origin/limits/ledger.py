"""Owns the ledger of global rate limits: what each edge may hold of each, never more than the limit together.

For each limit in use, and for each bucket's limits that are not (by the fallback shares), the sum of all that edges may
hold at any moment is at most WHOLE. What a share shrinks by is free when its edge has said that it goes by the smaller
one, or HELD_SECONDS after it was last heard. A silent edge's fallback share is kept for it for as long as it is known.

An edge whose share of a limit is smaller than its fallback, and that is not heard since t, goes by the fallback from
RISE_SECONDS after it asked on. From SILENT_SECONDS after t on the ledger counts it with that; so what others were told
before has ended, or was taken back, by HELD_SECONDS after that, which is earlier. docs/decisions/0052 has all of it.

Pure: times are in seconds of a clock that nobody can set. Who keeps it where, and who asks, is in rules.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from keywright.origin.limits.members import Holding, Member, MemberKey, count_neighbours
from keywright.origin.limits.targets import Division
from keywright.protocol.shares import (
    MAX_USES,
    NO_SHARE,
    WHOLE,
    ShareAnswer,
    Use,
    UseReport,
    consumer_number_of,
)

MOST_HOLDINGS = 1_000_000
"""Limits in use, times edges; some 150 bytes each."""
IDLE_SECONDS = 60.0
"""A limit that nobody used for so long is not shared out any more."""
FORGET_SECONDS = 60.0
"""An edge that was retired is no member any more when it was not heard for so long."""
SPARE_SECONDS = 5.0
"""What was given up unused is forgotten after that."""
PAUSE_SECONDS, IDLE_PAUSE_SECONDS = 1.0, 3.0
STEP = 32
"""A share that would change by less than this part of itself stays."""


class Repeated(Exception):
    """This report, or a later one of that edge, was heard already."""


@dataclass(slots=True)
class SharedLimit:
    """A limit in use. `counted` is the most that edges may hold of it together."""

    used_at: float
    bucket: int | None
    """Its number; None where nobody needed to know, or there is none."""
    counted: int = 0
    spare: int = 0
    """Parts that edges have given up unused and nobody has got yet: who does has them at once."""
    spare_at: float = 0.0
    division: Division = field(default_factory=Division)


@dataclass(slots=True)
class Ledger:
    """All members and limits."""

    members: dict[MemberKey, Member] = field(default_factory=dict)
    limits: dict[bytes, SharedLimit] = field(default_factory=dict)
    buckets: dict[int, int] = field(default_factory=dict)
    """The numbers of the buckets of consumers, by theirs: of those in `list_unknown`, where they exist."""
    now: float = 0.0
    """The moment that `limits` are counted at."""
    _neighbours: Mapping[MemberKey, int] = field(default_factory=dict)

    def admit(self, key: MemberKey, buckets: frozenset[int] | None, now: float) -> Member:
        """The edge as a member; a new one holds nothing. `buckets` is what it sees now."""
        member = self.members.get(key)
        if member is None:
            member = self.members[key] = Member(now, now, buckets)
        member.buckets = buckets
        return member

    def hear(self, key: MemberKey, report: UseReport, now: float) -> None:
        """Take down what a member tells. Raises Repeated."""
        member = self.members[key]
        if member.start == report.start and report.number <= member.number:
            raise Repeated
        member.hear(report, now)
        if member.buckets is not None:
            # Nobody tells of what it does not see.
            member.uses = {id: use for id, use in member.uses.items() if member.sees(self._bucket_of(id))}
        self.open(member.uses, now)
        for id, parts in report.freed.items():
            limit = self.limits.get(id)
            if limit is not None and member.sees(limit.bucket):
                limit.spare, limit.spare_at = limit.spare + parts, now

    def open(self, ids: Iterable[bytes], now: float) -> None:
        """Have these limits shared out."""
        for id in ids:
            # One more has a holding at each edge. Of those for which there is no room each has its fallback share.
            if id not in self.limits and (len(self.limits) + 1) * len(self.members) <= MOST_HOLDINGS:
                self.limits[id] = SharedLimit(now, self._bucket_of(id))

    def list_unknown(self, ids: Iterable[bytes]) -> set[int]:
        """The consumers of whom it must be known in which bucket they are: where some edges do not see all."""
        if all(member.buckets is None for member in self.members.values()):
            return set()
        asked = (consumer_number_of(id) for id in (*ids, *self.limits))
        return {number for number in asked if number not in self.buckets}

    def locate(self, buckets: Mapping[int, int]) -> None:
        """Take down in which buckets consumers are."""
        self.buckets |= buckets
        for id, limit in self.limits.items():
            limit.bucket = self._bucket_of(id)

    def balance(self, now: float) -> None:
        """Count all anew, and divide each limit by who uses it: after what was heard, and before what is answered."""
        self.now = now
        connected, others = [], []
        for member in self.members.values():
            if member.is_connected(now):
                connected.append(member)
                continue
            others.append(member)
            member.uses.clear()
            if member.is_expired(now):
                member.holdings.clear()
        for id, limit in list(self.limits.items()):
            kept = sum([member.count(id, now) for member in others if member.sees(limit.bucket)])
            seeing = [member for member in connected if member.sees(limit.bucket)]
            limit.counted = kept + sum([member.count(id, now) for member in seeing])
            # What others have been given meanwhile comes back at the limit's rate, and is not there twice.
            is_over = now - limit.spare_at > SPARE_SECONDS
            limit.spare = 0 if is_over else min(limit.spare, max(WHOLE - limit.counted, 0))
            users = [(use, member.goes_by(id)) for member in seeing if (use := member.uses.get(id)) is not None]
            if users:
                limit.used_at = now
                limit.division.divide(max(WHOLE - kept, 0), len(seeing), users)
            elif now - limit.used_at > IDLE_SECONDS and self._may_end(id, limit):
                del self.limits[id]
                for member in self.members.values():
                    member.forget(id)
        self._neighbours = count_neighbours(self.members)

    def answer(self, key: MemberKey) -> ShareAnswer:
        """What a member that was heard is told, at the moment of `balance`."""
        member = self.members[key]
        told, unused = self._tell_shares(member)
        self._tell_fallback(key, member)
        fallback = member.fallback.told
        member.answer += 1
        return ShareAnswer(
            member.answer,
            member.fallback.held if fallback is None else fallback,
            self._neighbours[key],
            IDLE_PAUSE_SECONDS if self._is_idle(member) else PAUSE_SECONDS,
            member.is_whole,
            told,
            unused,
        )

    def prune(self, known: Collection[MemberKey], now: float) -> list[MemberKey]:
        """Strike out the members that are not `known` as edges any more and were not heard for long."""
        gone = [
            key for key, member in self.members.items() if key not in known and now - member.heard_at > FORGET_SECONDS
        ]
        for key in gone:
            del self.members[key]
        return gone

    def _bucket_of(self, id: bytes) -> int | None:
        return self.buckets.get(consumer_number_of(id))

    def _may_end(self, id: bytes, limit: SharedLimit) -> bool:
        """Whether nobody has more of it than of any limit that is not shared out."""
        seeing = (member for member in self.members.values() if member.sees(limit.bucket))
        return all(member.count(id, self.now) <= _least_fallback(member) for member in seeing)

    def _tell_shares(self, member: Member) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """What the answer tells: what the edge is not known to go by, as much as there is room for; and how much of
        what it grows by is not used.
        """
        told: dict[bytes, int] = {}
        unused: dict[bytes, int] = {}
        now, is_whole = self.now, member.is_whole
        if not is_whole:
            told = dict.fromkeys(sorted(member.gone)[:MAX_USES], NO_SHARE)
        member.gone.clear()
        for id, limit in self.limits.items():
            if not member.sees(limit.bucket):
                continue
            holding = member.holdings.get(id)
            if holding is not None:
                holding.is_sent = False
            elif len(told) >= MAX_USES:
                continue
            counted = member.count(id, now)
            share = self._share(member, holding, limit, counted, member.uses.get(id))
            is_news = holding is None or holding.told is not None or share != holding.held
            if (is_news or is_whole) and len(told) < MAX_USES:
                grown = share - member.goes_by(id)
                if limit.spare and grown > 0 and not is_whole:
                    unused[id] = min(limit.spare, grown)
                    limit.spare -= unused[id]
                member.tell(id, share).is_sent = True
                told[id] = share
                limit.counted += member.count(id, now) - counted
            elif is_whole and holding is not None:
                # It is told all that it goes by, and this is not among it.
                holding.ceiling = max(holding.ceiling, member.fallback.ceiling)
                limit.counted += member.count(id, now) - counted
        return told, unused

    def _share(self, member: Member, holding: Holding | None, limit: SharedLimit, counted: int, use: Use | None) -> int:
        """What a member is to have of a limit: its target, as far as that is free."""
        held = member.fallback.held if holding is None else holding.held
        if self.now - limit.used_at > IDLE_SECONDS:
            target = min(held, _least_fallback(member))
        else:
            target = limit.division.target(use, held)
            if abs(target - held) <= held // STEP:
                target = held
        free = max(WHOLE - (limit.counted - counted), 0)
        return min(target, free)

    def _tell_fallback(self, key: MemberKey, member: Member) -> None:
        """One of n, n being the edges that see what this one sees, when each other one has no more than that."""
        neighbours = self._neighbours
        others = [(one, other) for one, other in self.members.items() if one != key and member.overlaps(other)]
        target = WHOLE // neighbours[key]
        if any(other.fallback.ceiling > WHOLE // neighbours[one] for one, other in others):
            target = min(target, max(WHOLE - sum(other.fallback.ceiling for _, other in others), 0))
        if target > member.fallback.held and not self._goes_by_shares(member):
            # It would grow where others may have what it grows by.
            target = member.fallback.held
        member.tell_fallback(target)
        member.fallback.is_sent = True

    def _is_idle(self, member: Member) -> bool:
        """Whether no limit that it sees is in use, and each edge has the fallback share that it is to have."""
        if any(member.sees(limit.bucket) for limit in self.limits.values()):
            return False
        even = {key: WHOLE // count for key, count in self._neighbours.items()}
        return all(one.fallback.held == even[key] for key, one in self.members.items() if member.overlaps(one))

    def _goes_by_shares(self, member: Member) -> bool:
        """Whether it will go by no fallback share of a limit that is shared out, once it has this answer."""
        for id, limit in self.limits.items():
            if not member.sees(limit.bucket):
                continue
            holding = member.holdings.get(id)
            if holding is None or (member.is_whole and not holding.is_sent):
                return False
        return True


def _least_fallback(member: Member) -> int:
    told = member.fallback.told
    return member.fallback.held if told is None else min(member.fallback.held, told)
