"""What follows from the reports of edges: pure, without a record and by a clock that is a number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keywright.origin.edges.reach import EVERYBODY
from keywright.origin.edges.rules import (
    LIVE_SECONDS,
    REFUSAL_MARGIN_SECONDS,
    ROUNDING_SECONDS,
    Entry,
    ReportBook,
    judge,
    list_visible,
)
from keywright.origin.edges.scopes import DEPLOYMENT, EdgeScope, HeldScopes
from keywright.origin.edges.store import Heard
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, Report

ACCOUNT = "acct_of_the_tests"
SCOPES = HeldScopes(EdgeScope(ACCOUNT))
NOW = 1000.0


def report_of(name: str, revision: int | None, *, number: int = 1, start: str = "0" * 16) -> Report:
    cursor = None if revision is None else Cursor(revision, "00" * 8, 1)
    state = EdgeState.STARTING if revision is None else EdgeState.SYNCED
    return Report("dply_1", f"instance-of-{name:->16}", start, number, name, "", "1", state, 1, cursor, 0)


def entry_of(revision: int | None, *, ago: float = 0.0) -> Entry:
    return Entry(report_of("any", revision), NOW - ago, SCOPES)


def book_with(report: Report, account_id: str = ACCOUNT, at: float = NOW) -> tuple[ReportBook, tuple[str, str]]:
    book, key = ReportBook(), (account_id, report.instance)
    book.admit(key, report, at, SCOPES)
    return book, key


@pytest.mark.parametrize(
    ("revisions", "count", "applied", "wanted", "is_reached"),
    [
        ([5], None, 1, 1, True),
        ([5, 6], None, 2, 2, True),
        ([5, 4], None, 1, 2, False),
        ([5, None], None, 1, 2, False),
        ([5, 4], 1, 1, 1, True),
        ([5, 5, 5], 2, 2, 2, True),
        ([5, 5], 3, 2, 3, False),
        ([5, 11], None, 1, 2, False),
    ],
    ids=["one", "ahead", "behind", "starting", "enough", "no more", "too few", "of a lost past"],
)
def test_a_revision_is_reached_by(
    revisions: list[int | None], count: int | None, applied: int, wanted: int, is_reached: bool
) -> None:
    entries = {(ACCOUNT, str(place)): entry_of(revision) for place, revision in enumerate(revisions)}
    outcome = judge(entries, EVERYBODY, 5, count, newest=10, now=NOW, is_known=True)
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (applied, wanted, is_reached)


def test_who_is_silent_is_pending_however_long() -> None:
    entries = {(ACCOUNT, "live"): entry_of(5), (ACCOUNT, "silent"): entry_of(4, ago=80_000)}
    outcome = judge(entries, EVERYBODY, 5, None, newest=10, now=NOW, is_known=True)
    assert (outcome.applied, outcome.wanted, [one.age for one in outcome.pending]) == (1, 2, [80_000])


@pytest.mark.parametrize(
    ("promised", "silent", "revision", "wanted", "pending", "refusing"),
    [
        (None, 80_000.0, 4, 2, 1, 0),
        (60_000, 60.0, 4, 2, 1, 0),
        (60_000, 60.0 + REFUSAL_MARGIN_SECONDS, 4, 2, 1, 0),
        (60_000, 60.1 + REFUSAL_MARGIN_SECONDS, 4, 1, 0, 1),
        (60_000, 80_000.0, None, 1, 0, 1),
        (60_000, 80_000.0, 5, 2, 0, 0),
    ],
    ids=["no promise", "not over", "not surely", "over", "empty", "has it"],
)
def test_who_promised_to_refuse_is_waited_for_until_then(
    promised: int | None, silent: float, revision: int | None, wanted: int, pending: int, refusing: int
) -> None:
    report = replace(report_of("leased", revision), refuses_after=promised)
    entries = {(ACCOUNT, "live"): entry_of(5), (ACCOUNT, "leased"): Entry(report, NOW - silent, SCOPES)}
    outcome = judge(entries, EVERYBODY, 5, None, newest=10, now=NOW, is_known=True)
    assert (outcome.wanted, len(outcome.pending), len(outcome.refusing)) == (wanted, pending, refusing)
    assert outcome.is_reached is (pending == 0)


def test_what_was_heard_of_an_edge_that_was_retired_since_tells_nothing() -> None:
    book, key = book_with(report_of("a", 4), at=NOW)
    assert key in book.entries(report_of("own", 5), NOW)
    book.take_rows([], NOW + 1, as_of=NOW + 0.5)
    assert key not in book.entries(report_of("own", 5), NOW + 1)
    # It runs, and says so again.
    book.hear(key, report_of("a", 4, number=2), NOW + 2)
    assert key in book.entries(report_of("own", 5), NOW + 2)


def test_after_a_goodbye_a_late_report_tells_nothing_and_one_of_a_new_start_does() -> None:
    book, key = book_with(report_of("a", 4))
    book.take_rows([Heard(ACCOUNT, report_of("a", 4), 0.0, SCOPES)], NOW, as_of=NOW)
    book.bid_farewell(key, replace(report_of("a", 4, number=5), state=EdgeState.GONE), NOW + 1)
    assert key not in book.entries(report_of("own", 5), NOW + 1)
    assert not book.hear(key, report_of("a", 4, number=4), NOW + 2)
    assert book.hear(key, report_of("a", 4, number=1, start="1" * 16), NOW + 3)
    assert key in book.entries(report_of("own", 5), NOW + 3)


def test_what_is_not_known_is_not_reached() -> None:
    outcome = judge({(ACCOUNT, "a"): entry_of(5)}, EVERYBODY, 5, None, newest=10, now=NOW, is_known=False)
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (1, 1, False)


def test_a_late_or_repeated_report_is_no_news_and_one_of_a_new_start_is() -> None:
    book, key = book_with(report_of("a", 5, number=7))
    for number in (7, 6, 1):
        assert not book.hear(key, report_of("a", 4, number=number), NOW)
    assert book.hear(key, report_of("a", 4, number=1, start="1" * 16), NOW)
    assert book.heard[key].report.revision == 4


def test_the_record_is_to_know_what_was_heard_since_and_first_of_all_who_has_moved() -> None:
    book, key = book_with(report_of("a", 5))
    assert (book.list_unstored(), book.list_moved()) == ([], [])
    book.hear(key, report_of("a", 5, number=2), NOW)
    assert (book.list_unstored(), book.list_moved()) == ([key], [])
    book.hear(key, report_of("a", 6, number=3), NOW)
    stored = book.to_store(book.list_moved(), NOW + 2)
    assert [(one.account_id, one.report.revision, one.age) for one in stored] == [(ACCOUNT, 6, 2.0)]
    book.note_stored(stored)
    assert (book.list_unstored(), book.list_moved()) == ([], [])


def test_the_own_edge_is_always_new_and_keeps_what_is_stored_of_it() -> None:
    book, own = ReportBook(), report_of("own", 5)
    book.hear_own(own, NOW)
    book.note_stored(book.to_store(book.list_unstored(), NOW))
    book.hear_own(own, NOW + 1)
    assert book.list_unstored() == []
    book.hear_own(report_of("own", 6), NOW + 2)
    assert book.list_moved() == [(DEPLOYMENT, own.instance)]
    assert book.entries(own, NOW + 3)[DEPLOYMENT, own.instance].at == NOW + 3


@pytest.mark.parametrize(("row_age", "revision"), [(2.0, 5), (1.0, 5), (1.0 - 2 * ROUNDING_SECONDS, 9), (0.0, 9)])
def test_the_newer_of_what_was_heard_and_what_was_read_counts(row_age: float, revision: int) -> None:
    book, key = book_with(report_of("a", 5), at=NOW - 1.0)
    book.take_rows([Heard(ACCOUNT, report_of("a", 9), row_age, SCOPES)], NOW, as_of=NOW)
    assert book.entries(report_of("own", 1), NOW)[key].report.revision == revision
    (shown, *_) = list_visible(book.entries(report_of("own", 1), NOW), [], {ACCOUNT}, NOW)
    assert shown.report.revision == revision


def test_an_account_sees_its_edges_and_the_deployments_by_name_and_gone_ones_too() -> None:
    book, _ = book_with(report_of("b", 5))
    book.admit(("acct_of_a_stranger", "c"), report_of("c", 5), NOW, SCOPES)
    gone = Heard(ACCOUNT, report_of("a", 4), 60.0, SCOPES)
    shown = list_visible(book.entries(report_of("own", 1), NOW), [gone], {DEPLOYMENT, ACCOUNT}, NOW)
    assert [(one.report.name, one.is_connected) for one in shown] == [("a", False), ("b", True), ("own", True)]


def test_who_is_not_heard_any_more_is_struck_out() -> None:
    book, key = book_with(report_of("a", 5))
    book.forget_gone(NOW + LIVE_SECONDS)
    assert key in book.heard
    book.forget_gone(NOW + LIVE_SECONDS + 0.1)
    assert book.heard == {}
