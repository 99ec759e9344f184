from __future__ import annotations

from keywright.runtime.processes.restarts import MAX_DEATHS, SETTLED_SECONDS, Restarts, pause_seconds


def test_pauses_grow_and_have_an_end() -> None:
    pauses = [pause_seconds(deaths) for deaths in range(1, MAX_DEATHS + 1)]
    assert pauses[-1] is None
    known = [pause for pause in pauses if pause is not None]
    assert len(known) == MAX_DEATHS - 1
    assert known == sorted(set(known))
    assert known[0] < 0.2


def test_a_row_ends_with_a_worker_that_settled() -> None:
    restarts = Restarts()
    assert [restarts.note_death(0, lived) for lived in (0.1, 1.0, SETTLED_SECONDS, 0.1)] == [1, 2, 1, 2]


def test_workers_have_rows_of_their_own() -> None:
    restarts = Restarts()
    assert [restarts.note_death(number, 0.1) for number in (0, 1, 0)] == [1, 1, 2]
