"""What follows from the reports of edges: pure, without a record and by a clock that is a number."""

from __future__ import annotations

import pytest

from keywright.origin.edges.rules import (
    DEPLOYMENT,
    LIVE_SECONDS,
    ROUNDING_SECONDS,
    Entry,
    ReportBook,
    judge,
    list_visible,
)
from keywright.origin.edges.store import Heard
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, Report

ACCOUNT = "acct_of_the_tests"
NOW = 1000.0


def report_of(name: str, revision: int | None, *, number: int = 1, start: str = "0" * 16) -> Report:
    cursor = None if revision is None else Cursor(revision, "00" * 8, 1)
    state = EdgeState.STARTING if revision is None else EdgeState.SYNCED
    return Report("dply_1", f"instance-of-{name:->16}", start, number, name, "", "1", state, 1, cursor, 0)


def entry_of(revision: int | None, *, ago: float = 0.0) -> Entry:
    return Entry(report_of("any", revision), NOW - ago)


def book_with(report: Report, account_id: str = ACCOUNT, at: float = NOW) -> tuple[ReportBook, tuple[str, str]]:
    book, key = ReportBook(), (account_id, report.instance)
    book.admit(key, report, at)
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
    outcome = judge(entries, 5, count, newest=10, now=NOW, is_known=True)
    assert (outcome.applied, outcome.wanted, outcome.is_reached) == (applied, wanted, is_reached)


def test_who_is_silent_for_long_is_not_waited_for() -> None:
    entries = {(ACCOUNT, "live"): entry_of(4, ago=LIVE_SECONDS), (ACCOUNT, "gone"): entry_of(4, ago=LIVE_SECONDS + 0.1)}
    outcome = judge(entries, 5, None, newest=10, now=NOW, is_known=True)
    assert (outcome.wanted, [one.account_id for one in outcome.pending]) == (1, [ACCOUNT])


def test_what_is_not_known_is_not_reached() -> None:
    outcome = judge({(ACCOUNT, "a"): entry_of(5)}, 5, None, newest=10, now=NOW, is_known=False)
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
    book.take_rows([Heard(ACCOUNT, report_of("a", 9), row_age)], NOW, as_of=NOW)
    assert book.entries(report_of("own", 1), NOW)[key].report.revision == revision
    (shown, *_) = list_visible(book.entries(report_of("own", 1), NOW), [], {ACCOUNT}, NOW)
    assert shown.report.revision == revision


def test_an_account_sees_its_edges_and_the_deployments_by_name_and_gone_ones_too() -> None:
    book, _ = book_with(report_of("b", 5))
    book.admit(("acct_of_a_stranger", "c"), report_of("c", 5), NOW)
    gone = Heard(ACCOUNT, report_of("a", 4), 60.0)
    shown = list_visible(book.entries(report_of("own", 1), NOW), [gone], {DEPLOYMENT, ACCOUNT}, NOW)
    assert [(one.report.name, one.is_connected) for one in shown] == [("a", False), ("b", True), ("own", True)]


def test_who_is_not_heard_any_more_is_struck_out() -> None:
    book, key = book_with(report_of("a", 5))
    book.forget_gone(NOW + LIVE_SECONDS)
    assert key in book.heard
    book.forget_gone(NOW + LIVE_SECONDS + 0.1)
    assert book.heard == {}
