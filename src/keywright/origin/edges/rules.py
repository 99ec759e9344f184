"""Rules of edges: what is known of each by its reports, and which of them have applied a change.

Nothing here asks a clock or the record: registry.py does, and hands in what it learnt. Times are in seconds of the
monotonic clock of this process.

*Connected* is an edge that was heard of within LIVE_SECONDS. The others are waited for as well: whoever is silent may
go on answering from what it has. Only three things end that: the edge said goodbye, or was retired (it has no
row any more), or it has promised to refuse by itself after a time in which no report of it was taken, and that is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from keywright.origin.edges.reach import Reach
from keywright.origin.edges.scopes import DEPLOYMENT, EVERYTHING, HeldScopes
from keywright.origin.edges.store import Heard
from keywright.protocol.feed_formats import NEWEST
from keywright.protocol.reports import EdgeState, Report

LIVE_SECONDS = 10.0
"""Three reports and more may be missing before an edge counts as disconnected."""
REFUSAL_MARGIN_SECONDS = 3.0
"""How much later than it promised an edge is believed to refuse: an answer may be under way, and clocks differ."""
ROUNDING_SECONDS = 0.05
"""Times in rows are in milliseconds: what was heard here is as new as a row that seems a little newer."""
OVERFLOW = "more-edges-than-are-counted"
"""The name that stands for edges that found no room: who waits for all is told that there are more."""
OWN_SCOPES = HeldScopes(EVERYTHING)
"""Of the edge beside an origin."""

EdgeKey = tuple[str, str]
"""The id of an account, or DEPLOYMENT, and the edge's instance: no account speaks for an edge of another one."""


@dataclass(slots=True)
class ReportBook:
    """The latest report of each edge: of those that report here, and of what the record has of the others."""

    heard: dict[EdgeKey, Entry] = field(default_factory=dict)
    rows: dict[EdgeKey, Entry] = field(default_factory=dict)
    rows_as_of: float = -1.0
    """When the record was asked for them."""
    are_rows_known: bool = False
    """Whether `rows` is what the record had then."""

    def is_repeat(self, key: EdgeKey, report: Report) -> bool:
        """Whether this, or a later one, was heard here: a report that was held up or sent again tells nothing."""
        entry = self.heard.get(key)
        return entry is not None and entry.report.start == report.start and report.number <= entry.report.number

    def admit(self, key: EdgeKey, report: Report, now: float, scopes: HeldScopes) -> None:
        """Take down the first report of an edge, which the record has already, and what such an edge may know."""
        self.heard.setdefault(key, Entry(report, now, scopes, stored=report)).scopes = scopes

    def hear(self, key: EdgeKey, report: Report, now: float) -> bool:
        """Take down a report; whether it was news."""
        if self.is_repeat(key, report):
            return False
        entry = self.heard[key]
        if report.feed_format is None and report.start == entry.report.start:
            # An edge writes in the first format again after each failure; it reads what it did.
            report = replace(report, feed_format=entry.report.feed_format)
        entry.report, entry.at = report, now
        return True

    def hear_own(self, report: Report, now: float) -> None:
        """Take down what the edge beside this origin says, as if it had reported."""
        key = (DEPLOYMENT, report.instance)
        stored = self.heard[key].stored if key in self.heard else None
        self.heard[key] = Entry(report, now, OWN_SCOPES, stored)

    def list_unstored(self) -> list[EdgeKey]:
        """Edges of which the record has not the latest report."""
        return [key for key, entry in self.heard.items() if entry.stored is not entry.report]

    def list_moved(self) -> list[EdgeKey]:
        """Edges that have applied changes of which the record does not know that."""
        return [key for key, entry in self.heard.items() if entry.stored_revision != (entry.report.revision or 0)]

    def to_store(self, keys: Iterable[EdgeKey], now: float) -> list[Heard]:
        """What the record is to know of these edges."""
        entries = ((key, self.heard.get(key)) for key in keys)
        return [entry.heard_of(key, now) for key, entry in entries if entry is not None]

    def note_stored(self, stored: Iterable[Heard]) -> None:
        """The record has these reports."""
        for one in stored:
            entry = self.heard.get((one.account_id, one.report.instance))
            if entry is not None:
                entry.stored = one.report

    def take_rows(self, kept: Iterable[Heard], now: float, as_of: float) -> None:
        """Take in what the record has, which was asked `as_of`."""
        self.rows = {
            (one.account_id, one.report.instance): Entry(one.report, now - one.age, one.scopes) for one in kept
        }
        self.rows_as_of, self.are_rows_known = as_of, True

    def bid_farewell(self, key: EdgeKey, report: Report, now: float) -> None:
        """Take down that an edge is gone: what it said before and comes later tells nothing."""
        self.heard[key] = Entry(report, now, HeldScopes.unknown(key[0]), stored=report)

    def forget(self, instance: str) -> None:
        """Strike out an edge that was retired."""
        for found in (self.heard, self.rows):
            for key in [key for key in found if key[1] == instance]:
                del found[key]

    def forget_rows(self) -> None:
        """Nobody looks at the record any more."""
        self.rows, self.are_rows_known = {}, False

    def forget_gone(self, now: float) -> None:
        """Strike out the edges that are not heard any more here: the record has them, until they are retired."""
        self.heard = {key: entry for key, entry in self.heard.items() if now - entry.at <= LIVE_SECONDS}

    def entries(self, own: Report, now: float) -> dict[EdgeKey, Entry]:
        """What is known of each edge, here or from the rows: the newer of both. `own` is of the edge beside us."""
        found = dict(self.rows)
        for key, entry in self.heard.items():
            if key not in found:
                # Each is in the record before it is heard here; what is not there any more was retired since.
                is_retired = self.are_rows_known and self.rows_as_of > entry.at
                found |= {} if is_retired else {key: entry}
            elif entry.at >= found[key].at - ROUNDING_SECONDS:
                found[key] = entry
        found = {key: entry for key, entry in found.items() if entry.report.state is not EdgeState.GONE}
        found[DEPLOYMENT, own.instance] = Entry(own, now, OWN_SCOPES)
        return found


@dataclass(slots=True)
class Entry:
    """What was heard of one edge, when, and what of it the other origins can know: the report that is `stored`."""

    report: Report
    at: float
    scopes: HeldScopes
    stored: Report | None = None

    @property
    def stored_revision(self) -> int:
        return (self.stored.revision or 0) if self.stored is not None else -1

    def heard_of(self, key: EdgeKey, now: float) -> Heard:
        return Heard(key[0], self.report, now - self.at, self.scopes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who has applied a revision: `applied` of `wanted` edges. `pending` are those that have not.

    `refusing` have not either, but refuse every key, as they promised for the case that nothing is heard of them.
    """

    applied: int
    wanted: int
    pending: Sequence[Heard] = ()
    refusing: Sequence[Heard] = ()
    is_known: bool = True
    """False when the other origins' edges could not be looked up."""

    @property
    def is_reached(self) -> bool:
        return self.is_known and self.applied >= self.wanted


def judge(
    entries: Mapping[EdgeKey, Entry],
    reach: Reach,
    revision: int,
    count: int | None,
    *,
    newest: int,
    now: float,
    is_known: bool,
) -> Outcome:
    """How far a revision has got: among so many edges, or all that may answer (None), of those that it concerns.

    What is ahead of `newest`, the record's head, is of a past that the record has lost: it counts as pending.
    """
    reached = {key: one if (one := entry.report.revision or 0) <= newest else 0 for key, entry in entries.items()}
    entries = {key: entry for key, entry in entries.items() if reach.includes(key[0], entry.scopes, reached[key])}
    missing = [entry.heard_of(key, now) for key, entry in entries.items() if reached[key] < revision]
    refusing = [one for one in missing if has_refused(one)]
    pending = [one for one in missing if not has_refused(one)]
    wanted = len(entries) - len(refusing) if count is None else count
    return Outcome(min(len(entries) - len(missing), wanted), wanted, pending, refusing, is_known)


def overflow_of(report: Report) -> Report:
    """What is kept of an edge for which there is no room: that there are more, which have applied nothing."""
    return replace(
        report,
        instance=OVERFLOW,
        name=OVERFLOW,
        state=EdgeState.BEHIND,
        cursor=None,
        lag=None,
        refuses_after=None,
        is_leased=False,
        clock_offset=None,
        feed_format=None,
        is_format_unknown=False,
    )


def reads_older_format(report: Report) -> bool:
    """Whether the edge is sent no key with powers, and so refuses it. One that does not say so is of before them."""
    return report.feed_format is None or report.feed_format < NEWEST


def list_old_readers(entries: Mapping[EdgeKey, Entry], now: float) -> list[str]:
    """The names of connected edges that read an older format of the feed."""
    connected = (entry.report for entry in entries.values() if now - entry.at <= LIVE_SECONDS)
    return sorted({report.name for report in connected if reads_older_format(report)})


def has_refused(heard: Heard) -> bool:
    """Whether an edge certainly answers for no key by now, as it promised."""
    promised = heard.report.refuses_after
    return promised is not None and heard.age > promised / 1000 + REFUSAL_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class Reported:
    """An edge as it is shown: what it said last, `age` seconds ago."""

    report: Report
    age: float
    is_connected: bool
    is_refusing: bool
    account_id: str
    misses_powers: bool = False
    """Whether it refuses keys with powers, and there are some."""


def list_visible(
    entries: Mapping[EdgeKey, Entry],
    kept: Iterable[Heard],
    account_ids: set[str],
    now: float,
    *,
    has_powers: bool = False,
) -> list[Reported]:
    """The edges of these accounts by name: what is known here, or what the record has `kept` where that is newer."""
    found = {(one.account_id, one.report.instance): one for one in kept}
    for key, entry in entries.items():
        age = max(0.0, now - entry.at)
        if key[0] in account_ids and (key not in found or age <= found[key].age + ROUNDING_SECONDS):
            found[key] = entry.heard_of(key, entry.at + age)
    by_name = sorted(found.values(), key=lambda one: (one.report.name, one.report.instance))
    return [
        Reported(
            one.report,
            one.age,
            one.age <= LIVE_SECONDS,
            has_refused(one),
            one.account_id,
            has_powers and reads_older_format(one.report),
        )
        for one in by_name
    ]
