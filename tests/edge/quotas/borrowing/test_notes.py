"""What an edge has written of its leases is read back by its next start: to the last line that is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywright.edge.quotas.borrowing.notes import SPARE_LINES, Noted, Notes

FIRST, SECOND = Noted(11, 5, 7, "calls", 0, 20), Noted(12, 6, 7, "bytes", 3, 9, 1)


def started(base: Path, *noted: Noted, place: str = "") -> Notes:
    notes = Notes(base, "edge-1")
    notes.take_over("dep_1", notes.read_earlier("dep_1"))
    notes.write(noted, place=place)
    return notes


def left(base: Path, deployment_id: str = "dep_1") -> list[Noted]:
    notes = Notes(base, "edge-1")
    found = notes.read_earlier(deployment_id)
    notes.close()
    return found


def test_the_last_of_a_lease_counts_and_what_is_closed_is_gone(tmp_path: Path) -> None:
    notes = started(tmp_path, FIRST, SECOND, place="a" * 32)
    later = Noted(11, 5, 7, "calls", 0, 40)
    notes.write([later], closed=[12])
    notes.close()
    following = Notes(tmp_path, "edge-1")
    assert following.read_earlier("dep_1") == [later]
    assert (following.start, following.place) == (notes.start + 1, "a" * 32)
    assert following.instance == notes.instance


@pytest.mark.parametrize("cut", range(1, 12, 3))
def test_what_was_not_written_to_its_end_is_not_read(tmp_path: Path, cut: int) -> None:
    notes = started(tmp_path, FIRST)
    notes.write([SECOND])
    notes.close()
    log = tmp_path / "1.log"
    log.write_bytes(log.read_bytes()[:-cut])
    assert left(tmp_path) == [FIRST]


def test_a_start_that_died_before_it_took_over_loses_nothing(tmp_path: Path) -> None:
    started(tmp_path, FIRST).close()
    for _ in range(3):
        Notes(tmp_path, "edge-1").close()
    notes = Notes(tmp_path, "edge-1")
    assert (notes.start, notes.read_earlier("dep_1")) == (5, [FIRST])
    notes.take_over("dep_1", [FIRST])
    assert [path.name for path in tmp_path.glob("*.log")] == ["5.log"]


def test_an_earlier_start_that_writes_on_does_so_in_vain(tmp_path: Path) -> None:
    earlier = started(tmp_path, FIRST)
    notes = started(tmp_path)
    earlier.write([Noted(11, 5, 7, "calls", 0, 10_000)])
    notes.close()
    assert left(tmp_path) == [FIRST]
    earlier.close()
    with pytest.raises(OSError, match="ended"):
        earlier.write([SECOND])


def test_another_deployments_leases_are_not_told_and_a_disk_that_was_set_back_is_another_edge(tmp_path: Path) -> None:
    notes = started(tmp_path, FIRST)
    assert left(tmp_path, "dep_2") == []
    notes.forget()
    following = Notes(tmp_path, "edge-1")
    assert following.start > notes.start
    assert following.instance != notes.instance
    assert following.read_earlier("dep_1") == []


def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    notes = started(tmp_path)
    for units in range(2 * SPARE_LINES):
        notes.write([Noted(11, 5, 7, "calls", 0, units)])
    notes.close()
    assert len((tmp_path / "1.log").read_bytes().splitlines()) < SPARE_LINES + 10
    assert left(tmp_path)[0].may_spend == 2 * SPARE_LINES - 1
