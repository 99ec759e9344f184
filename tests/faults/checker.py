"""Holds a history against the rules. Each rule gives a sentence for everything that breaks it; none for a good history.

The record's log is the truth: one change for each revision. Every answer must be one that some single revision gives.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate

from faults.history import REFUSED, History, Write, WriteKind
from keywright.protocol.changes import BucketDelete, ConsumerDelete, ConsumerPut, KeyDelete, KeyPut

ROUNDING_SECONDS = 0.002
"""How exactly a reader tells of which moment it knows."""
HEARD_SECONDS = 30.0
"""By when everybody has heard of a revocation in a world that is whole: more than the longest pause of who tries again,
and than it takes until a process that does not move is replaced, twice."""
FROZEN_SECONDS = 10.0
"""For how long after it moves again the replica of a frozen process may be filled anew (decision 40)."""


def violations(history: History) -> list[str]:
    return [f"{rule.__name__}: {said}" for rule in RULES for said in rule(history, Timeline(history))]


class Timeline:
    """The log, by key and consumer: what a replica at any revision must say."""

    def __init__(self, history: History) -> None:
        self.numbers: dict[str, int] = {}
        self.keys: dict[bytes, list[tuple[int, int | None]]] = defaultdict(list)
        """Of each digest: from which revision on it belongs to which consumer (None: to nobody)."""
        self.consumers: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
        """Of each consumer: from which revision on its metadata says what (None: it is gone)."""
        for revision, change in history.log:
            match change:
                case ConsumerPut():
                    self.numbers[change.name] = change.number
                    self.consumers[change.number].append((revision, json.loads(change.metadata).get("n", -1)))
                case ConsumerDelete():
                    self.consumers[change.number].append((revision, None))
                case KeyPut():
                    self.keys[change.digest].append((revision, change.consumer_number))
                case KeyDelete():
                    self.keys[change.digest].append((revision, None))
                case BucketDelete():
                    raise AssertionError("schedules delete no buckets")

    def say(self, digest: bytes, revision: int) -> tuple[str, int | None]:
        owner = _at(self.keys[digest], revision)
        n = None if owner is None else _at(self.consumers[owner], revision)
        return ("UNKNOWN", None) if n is None else ("VALID", n)

    def moments(self, digest: bytes) -> list[int]:
        """The revisions at which the answer for this key may become another one."""
        owners = {owner for _, owner in self.keys[digest] if owner is not None}
        return sorted(revision for rows in (self.keys[digest], *(self.consumers[owner] for owner in owners))
                      for revision, _ in rows)  # fmt: skip

    def revision_of(self, write: Write) -> int | None:
        """The revision at which a write had happened; None if it has not."""
        number = self.numbers.get(write.consumer)
        match write.kind:
            case WriteKind.CREATE:
                found = [_first(self.keys[digest], number) for digest in write.digests]
            case WriteKind.REVOKE:
                found = [_first(self.keys[digest], None) for digest in write.digests]
            case WriteKind.METADATA | WriteKind.END:
                found = [None if number is None else _first(self.consumers[number], write.n)]
        happened = [revision for revision in found if revision is not None]
        return max(happened) if len(happened) == len(found) else None


def nothing_acknowledged_is_lost(history: History, timeline: Timeline) -> Iterator[str]:
    for write in history.writes:
        if write.acknowledged_at is not None and timeline.revision_of(write) is None:
            yield f"{write.kind} of {write.consumer} was acknowledged and is not in the log: {write}"
    held = {(put.digest, put.consumer_number) for put in history.record.records if isinstance(put, KeyPut)}
    for digest, rows in timeline.keys.items():
        owner = rows[-1][1]
        lives = owner is not None and timeline.say(digest, rows[-1][0] + 1_000_000)[0] == "VALID"
        if lives != any(kept == digest for kept, _ in held):
            yield f"the log says that key {digest.hex()[:8]} {'lives' if lives else 'is gone'}, the record does not"


def nothing_is_half_done(history: History, timeline: Timeline) -> Iterator[str]:
    for write in history.writes:
        if write.kind is WriteKind.CREATE:
            there = sum(bool(timeline.keys[digest]) for digest in write.digests)
            if 0 < there < len(write.digests):
                yield f"{there} of {len(write.digests)} keys of one request were made"


def the_revision_that_was_told_is_the_one_of_the_change(history: History, timeline: Timeline) -> Iterator[str]:
    for write in history.writes:
        if write.revision is not None and write.revision != timeline.revision_of(write):
            yield f"{write.kind} was told to be revision {write.revision} and is {timeline.revision_of(write)}"


def revisions_are_in_the_order_of_acknowledgements(history: History, timeline: Timeline) -> Iterator[str]:
    known = [(write, timeline.revision_of(write)) for write in history.writes]
    ends = sorted((write.acknowledged_at, revision) for write, revision in known if write.acknowledged_at and revision)
    highest, place = 0, 0
    for write, revision in sorted(known, key=lambda item: item[0].asked_at):
        while place < len(ends) and ends[place][0] < write.asked_at:
            highest = max(highest, ends[place][1])
            place += 1
        if revision is not None and revision <= highest:
            yield f"{write.kind} of {write.consumer} got revision {revision} after {highest} had been acknowledged"


def no_reader_goes_back(history: History, _: Timeline) -> Iterator[str]:
    reached: dict[str, int] = {}
    for answer in sorted(history.answers, key=lambda answer: answer.asked_at):
        for revision in (answer.low, answer.high):
            if revision is not None:
                if revision < reached.get(answer.reader, 0):
                    yield f"{answer.reader} went back from revision {reached[answer.reader]} to {revision}"
                reached[answer.reader] = revision
    for name, held in history.edges.items():
        if (held.revision or 0) < reached.get(name, 0):
            yield f"{name} ended at revision {held.revision} and had been at {reached[name]}"


def every_answer_is_that_of_one_revision(history: History, timeline: Timeline) -> Iterator[str]:
    for answer in history.answers:
        if answer.verdict == REFUSED:
            continue
        low, high = answer.low or 0, answer.high if answer.high is not None else 10**18
        moments = [low, *(moment for moment in timeline.moments(answer.digest) if low < moment <= high)]
        possible = {timeline.say(answer.digest, moment) for moment in moments}
        if (answer.verdict, answer.n) not in possible:
            yield (
                f"{answer.reader} said {answer.verdict} {answer.n} of {answer.digest.hex()[:8]} between revisions "
                f"{answer.low} and {answer.high}, where {sorted(map(str, possible))} is right"
            )


def who_has_answers_goes_on_answering(history: History, _: Timeline) -> Iterator[str]:
    """Whose replica was damaged may lose it once, when that is found: at its start, or after answers from the rest.

    Who said goodbye (SIGTERM) may refuse from its next start on, until it is in step and answers.
    """
    ready: set[str] = set()
    spared: set[str] = set()
    damages = sorted(history.damages, reverse=True)
    comebacks = sorted(history.comebacks, reverse=True)
    for answer in sorted(history.answers, key=lambda answer: answer.answered_at):
        while damages and damages[-1][0] <= answer.answered_at:
            spared.add(damages.pop()[1])
        while comebacks and comebacks[-1][0] <= answer.answered_at:
            ready.discard(comebacks.pop()[1])
        if answer.verdict != REFUSED:
            ready.add(answer.reader)
        elif any(
            who == answer.reader and since <= answer.answered_at and answer.asked_at <= until + FROZEN_SECONDS
            for since, until, who in history.freezes
        ):
            # What a frozen process had begun to write is given up with the files.
            continue
        elif answer.reader in spared:
            spared.discard(answer.reader)
            ready.discard(answer.reader)
        elif answer.reader in ready:
            yield f"{answer.reader} had a replica and answered 503 at {answer.asked_at:.3f}"


def an_origin_shows_its_own_writes(history: History, timeline: Timeline) -> Iterator[str]:
    yield from _older_than_promised(history, timeline, lambda write, reader: reader == write.origin)


def what_an_edge_has_applied_holds_there(history: History, timeline: Timeline) -> Iterator[str]:
    """After `wait=all` was answered, no edge that it names accepts the revoked key."""
    yield from _older_than_promised(history, timeline, lambda write, reader: reader in write.applied_by)


def no_edge_accepts_what_ended_everywhere(history: History, _: Timeline) -> Iterator[str]:
    """After `wait=all` was answered and named nobody as pending, nobody at all accepts the revoked key."""
    ended = {
        digest: write.acknowledged_at
        for write in history.writes
        if write.is_everywhere and write.acknowledged_at is not None and write.kind is WriteKind.REVOKE
        for digest in write.digests
    }
    for answer in history.answers:
        if answer.verdict == "VALID" and ended.get(answer.digest, answer.asked_at) < answer.asked_at:
            yield f"{answer.reader} accepted {answer.digest.hex()[:8]} though nobody was pending"


def who_is_in_step_knows_of_what_was_revoked(history: History, timeline: Timeline) -> Iterator[str]:
    """Who says that it is in step, and as of when, knows of all that had been acknowledged by then."""
    happened = sorted(
        (
            (write.acknowledged_at, timeline.revision_of(write) or 0)
            for write in history.writes
            if write.acknowledged_at
        ),
    )
    newest = list(accumulate((revision for _, revision in happened), max))
    ended = _ends(history)
    for answer in history.answers:
        if answer.known_at is None:
            continue
        known_at = answer.known_at - ROUNDING_SECONDS
        place = bisect_left(happened, known_at, key=lambda item: item[0])
        if place and (answer.low or 0) < newest[place - 1]:
            ago, needed = answer.asked_at - answer.known_at, newest[place - 1]
            yield f"{answer.reader} said it knew all until {ago:.3f} s ago, and was at {answer.low}, not {needed}"
        if answer.verdict == "VALID" and ended.get(answer.digest, known_at) < known_at:
            yield f"{answer.reader} accepted {answer.digest.hex()[:8]} and said it knew all that was before"


def what_was_revoked_is_refused_once_all_has_healed(history: History, _: Timeline) -> Iterator[str]:
    ended = _ends(history)
    for answer in history.answers:
        if answer.verdict != "VALID" or answer.digest not in ended:
            continue
        late = answer.asked_at - max(history.healed_at, ended[answer.digest])
        if answer.is_last or late > HEARD_SECONDS:
            yield f"{answer.reader} accepted {answer.digest.hex()[:8]} {late:.1f} s after all was healed"


def in_the_end_every_edge_equals_the_record(history: History, _: Timeline) -> Iterator[str]:
    yield from history.unhealed
    for name, held in history.edges.items():
        if held.revision != history.record.revision:
            yield f"{name} is at revision {held.revision}, the record at {history.record.revision}"
        visible = history.visible[name]
        if list(held.records) != list(visible):
            missing = [put for put in visible if put not in held.records]
            more = [put for put in held.records if put not in visible]
            yield f"{name} lacks {missing[:3]} ({len(missing)}) and has {more[:3]} ({len(more)}) besides"


RULES: tuple[Callable[[History, Timeline], Iterator[str]], ...] = (
    nothing_acknowledged_is_lost,
    nothing_is_half_done,
    the_revision_that_was_told_is_the_one_of_the_change,
    revisions_are_in_the_order_of_acknowledgements,
    no_reader_goes_back,
    every_answer_is_that_of_one_revision,
    who_has_answers_goes_on_answering,
    an_origin_shows_its_own_writes,
    what_an_edge_has_applied_holds_there,
    no_edge_accepts_what_ended_everywhere,
    who_is_in_step_knows_of_what_was_revoked,
    what_was_revoked_is_refused_once_all_has_healed,
    in_the_end_every_edge_equals_the_record,
)


def _ends(history: History) -> dict[bytes, float]:
    """When it was acknowledged that a key was revoked."""
    return {
        digest: write.acknowledged_at
        for write in history.writes
        if write.kind is WriteKind.REVOKE and write.acknowledged_at is not None
        for digest in write.digests
    }


def _older_than_promised(
    history: History, timeline: Timeline, is_promised: Callable[[Write, str], bool]
) -> Iterator[str]:
    """Answers that were asked for after a write, which the reader was said to have, and show that it had it not."""
    for reader in {answer.reader for answer in history.answers}:
        promised = [
            (write.acknowledged_at, revision, write)
            for write in history.writes
            if write.acknowledged_at is not None
            and is_promised(write, reader)
            and (revision := timeline.revision_of(write)) is not None
        ]
        promised.sort(key=lambda item: item[0])
        newest = list(accumulate((revision for _, revision, _ in promised), max))
        ended = {digest: at for at, _, write in promised if write.kind is WriteKind.REVOKE for digest in write.digests}
        for answer in history.answers:
            if answer.reader != reader:
                continue
            place = bisect_left(promised, answer.asked_at, key=lambda item: item[0])
            if place and answer.low is not None and answer.low < newest[place - 1]:
                yield f"{reader} was at {answer.low} when it had been said to be at {newest[place - 1]}"
            if answer.verdict == "VALID" and ended.get(answer.digest, answer.asked_at) < answer.asked_at:
                yield f"{reader} accepted {answer.digest.hex()[:8]} though it was said to know of its end"


def _at(rows: list[tuple[int, int | None]], revision: int) -> int | None:
    place = bisect_right(rows, revision, key=lambda row: row[0])
    return rows[place - 1][1] if place else None


def _first(rows: list[tuple[int, int | None]], value: int | None) -> int | None:
    return next((revision for revision, found in rows if found == value), None)
