"""The table of rate limits in one process: all or none, what changes and what ends, and files that are not its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from keywright.edge.limits import rows
from keywright.edge.limits.gcra import WHOLE
from keywright.edge.limits.table import SHARDS, Asked, LimitTable, consumer_limit_id, key_limit_id
from support.clock import FakeClock
from support.small_disk import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = 86_400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(tmp_path: Path, clock: FakeClock) -> Iterator[LimitTable]:
    made = LimitTable(tmp_path / "limits", clock.elapsed)
    yield made
    made.close()


def of(consumer: int, limit: int = 3, seconds: int = 60, name: str = "burst", *, is_global: bool = True) -> Asked:
    return Asked(consumer_limit_id(consumer, name), limit, seconds, is_global)


def take_all(table: LimitTable, *asked: Asked) -> int:
    count = 0
    while table.take(asked)[0]:
        count += 1
    return count


def remaining(table: LimitTable, *asked: Asked) -> list[int]:
    return [stand.remaining for stand in table.take(asked, is_peek=True)[1]]


def test_a_limit_lets_through_what_it_says_and_each_consumer_has_its_own(table: LimitTable) -> None:
    assert take_all(table, of(1)) == 3
    assert take_all(table, of(1 + SHARDS)) == 3
    assert take_all(table, of(1, name="other")) == 3


def test_what_was_taken_is_given_back_with_the_time(table: LimitTable, clock: FakeClock) -> None:
    assert take_all(table, of(1)) == 3
    clock.advance(19.9)
    assert take_all(table, of(1)) == 0
    clock.advance(0.2)
    assert take_all(table, of(1)) == 1
    clock.advance(DAY)
    assert take_all(table, of(1)) == 3


def test_all_limits_are_taken_or_none(table: LimitTable) -> None:
    assert take_all(table, of(1, 5), of(1, 2, name="least")) == 2
    assert remaining(table, of(1, 5), of(1, 2, name="least")) == [3, 0]


def test_nothing_is_taken_where_somebody_else_says_no(table: LimitTable) -> None:
    assert table.take([of(1)], agree=lambda: False)[0] is False
    assert remaining(table, of(1)) == [3]


def test_nobody_else_is_asked_where_a_limit_is_used_up(table: LimitTable) -> None:
    take_all(table, of(1))
    assert table.take([of(1)], agree=pytest.fail)[0] is False


def test_a_peek_says_how_it_stands_and_takes_nothing(table: LimitTable) -> None:
    for _ in range(10):
        fits, (stand,) = table.take([of(1)], is_peek=True)
        assert (fits, stand.remaining) == (True, 3)
    assert take_all(table, of(1)) == 3
    assert table.take([of(1)], is_peek=True)[0] is False


def test_a_limit_that_is_changed_goes_on_with_what_was_counted(table: LimitTable) -> None:
    assert take_all(table, of(1, 3)) == 3
    assert take_all(table, of(1, 5)) == 2
    assert take_all(table, of(1, 4, 3600)) == 0
    assert take_all(table, of(1, 7, 3600)) == 2


def test_limits_of_keys_are_theirs_and_stand_beside_their_consumers(table: LimitTable) -> None:
    keys = [Asked(key_limit_id(1, f"key_{n}", "burst"), 2, 60, is_global=True) for n in range(2)]
    assert len({of(1).id, *(key.id for key in keys)}) == 3
    assert {key.id[0] for key in keys} == {of(1).id[0]}
    assert take_all(table, of(1, 3), keys[0]) == 2
    assert take_all(table, of(1, 3), keys[1]) == 1


def test_another_process_finds_what_was_counted(table: LimitTable, tmp_path: Path, clock: FakeClock) -> None:
    take_all(table, of(1))
    other = LimitTable(tmp_path / "limits", clock.elapsed)
    assert take_all(other, of(1)) == 0
    other.close()


def test_threads_count_together(table: LimitTable) -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(take_all(table, of(1, 500)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 500


def test_a_process_that_was_forked_counts_on_beside_its_parent(table: LimitTable) -> None:
    assert table.take([of(1, 1000)])[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if sum(table.take([of(1, 1000)])[0] for _ in range(100)) == 100 else 1)
    taken = sum(table.take([of(1, 1000)])[0] for _ in range(100))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert remaining(table, of(1, 1000)) == [1000 - 1 - 100 - taken]


def admitted(table: LimitTable, since_seconds: float) -> dict[bytes, int]:
    return {use.id: use.admitted for use in table.list_uses(since_seconds)}


# -- shares -----------------------------------------------------------------------------------------------------------


def test_limits_of_all_edges_that_were_asked_for_lately_are_told(table: LimitTable, clock: FakeClock) -> None:
    assert take_all(table, of(1), of(1, name="here", is_global=False)) == 3
    clock.advance(30)
    assert take_all(table, of(2, 5)) == 5
    assert admitted(table, 10) == {of(2).id: 5}
    assert admitted(table, 60) == {of(1).id: 3, of(2).id: 5}


def test_a_limit_that_only_refuses_is_in_use_too(table: LimitTable, clock: FakeClock) -> None:
    table.set_fallback_share(0.0)
    for _ in range(3):
        assert not table.take([of(1)])[0]
        assert admitted(table, 2) == {of(1).id: 0}
        clock.advance(5)
        assert admitted(table, 2) == {}


def test_a_share_holds_until_its_end_and_then_the_fallback_does(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 10)
    assert table.take([limit])[0]
    table.set_fallback_share(0.1)
    table.set_shares({limit.id: 0.5, of(9).id: 0.5}, until=clock.elapsed() + 10)
    clock.advance(5)
    assert take_all(table, limit) == 50
    assert take_all(table, of(1, 100, 10, "here", is_global=False)) == 100
    clock.advance(11)
    assert take_all(table, limit) == 10
    # What a share grows by is not had at once: elsewhere it was.
    table.set_shares({limit.id: 1.0}, until=clock.elapsed() + 10)
    assert take_all(table, limit) == 0
    clock.advance(5)
    assert take_all(table, limit) == 50


def test_share_that_moves_between_edges_lets_no_more_through_than_the_limit(tmp_path: Path, clock: FakeClock) -> None:
    one, other = (LimitTable(tmp_path / name, clock.elapsed, boot_id="x", first_share=0.5) for name in "ab")
    limit, admitted = of(1, 100, 10), 0
    for _ in range(10):
        for full, empty in ((one, other), (other, one)):
            empty.set_shares({limit.id: 0.0}, until=clock.elapsed() + 10)
            full.set_shares({limit.id: 1.0}, until=clock.elapsed() + 10)
            admitted += take_all(full, limit)
            clock.advance(0.1)
    # Its 100, and ten a second.
    assert admitted <= 100 + 20
    one.close()
    other.close()


def test_share_that_shrinks_takes_along_what_was_used_of_it(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 10)
    table.set_fallback_share(0.2)
    assert take_all(table, limit) == 20
    table.set_shares({limit.id: 1.0}, until=clock.elapsed() + 10)
    clock.advance(9)
    assert take_all(table, limit) == 90
    # Two of a hundred are given back in the last second, and no more is owed than what is left of it.
    table.set_shares({limit.id: 0.2}, until=clock.elapsed() + 10)
    clock.advance(1)
    assert take_all(table, limit) == 2


def test_share_that_ends_has_its_rate_until_then(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 10)
    table.set_fallback_share(0.2)
    assert take_all(table, limit) == 20
    table.set_shares({limit.id: 0.5}, until=clock.elapsed() + 2)
    clock.advance(4)
    assert take_all(table, limit) == 2 * 5 + 2 * 2


def test_what_was_not_used_of_a_share_goes_along_with_it(tmp_path: Path, clock: FakeClock) -> None:
    one, other = (LimitTable(tmp_path / name, clock.elapsed, boot_id="x", first_share=0.5) for name in "ab")
    limit, until = of(1, 100, 1000), clock.elapsed() + 10
    assert all(one.take([limit])[0] for _ in range(20))
    # The other was never asked: all of its half is there.
    freed = other.set_shares({limit.id: 0.1}, until=until)
    assert freed == {limit.id: pytest.approx(0.4)}
    assert one.set_shares({limit.id: 0.9}, until=until, unused=freed) == {}
    assert all(one.take([limit])[0] for _ in range(50))
    # Back again: 20 of its 90 are not used, and of these it can keep 10.
    freed = one.set_shares({limit.id: 0.1}, until=until)
    assert freed == {limit.id: pytest.approx(0.1)}
    assert other.set_shares({limit.id: 0.9}, until=until, unused=freed) == {}
    assert (take_all(one, limit), take_all(other, limit)) == (10, 20)
    one.close()
    other.close()


def test_share_that_ended_by_itself_is_not_given_up(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 1000)
    table.set_fallback_share(0.3)
    table.set_shares({limit.id: 0.3}, until=clock.elapsed() + 1)
    table.set_shares({limit.id: 0.9}, until=clock.elapsed() + 1, unused={limit.id: 0.6})
    table.take([limit])
    clock.advance(2)
    assert table.set_shares({limit.id: 0.1}, until=clock.elapsed() + 10) == {limit.id: pytest.approx(0.2)}


def test_share_is_there_before_the_limit_is_asked_for(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 10)
    table.set_shares({limit.id: 0.2}, until=clock.elapsed() + 10)
    assert table.list_uses(60) == []
    assert take_all(table, limit) == 20
    (use,) = table.list_uses(60)
    assert (use.id, use.limit, use.window_seconds, use.admitted, use.is_full) == (limit.id, 100, 10, 20, True)
    clock.advance(2)
    (use,) = table.list_uses(60)
    assert (use.is_full, use.age_seconds) == (False, 2.0)


def test_share_that_changes_is_no_question(table: LimitTable, clock: FakeClock) -> None:
    limit = of(1, 100, 10)
    table.take([limit])
    clock.advance(5)
    for share in (0.5, 0.1, 0.7):
        table.set_shares({limit.id: share}, until=clock.elapsed() + 10)
    (use,) = table.list_uses(60)
    assert (use.age_seconds, use.given_back) == (5.0, pytest.approx(7.0))
    assert table.list_uses(3) == []


def test_table_that_somebody_will_give_shares_lets_nothing_through_before(tmp_path: Path, clock: FakeClock) -> None:
    table = LimitTable(tmp_path / "limits", clock.elapsed, boot_id="x", first_share=0.0)
    assert take_all(table, of(1, 100, 10)) == 0
    assert take_all(table, of(1, 100, 10, "here", is_global=False)) == 100
    table.close()


def test_shares_together_are_never_more_than_the_limit(table: LimitTable) -> None:
    assert table.take([of(1, 10**9, 10)])[0]
    for n in (3, 7, 64):
        table.set_shares({of(1).id: 1 / n}, until=10**6)
        capacity = table.take([of(1, 10**9, 10)], is_peek=True)[1][0].capacity
        assert capacity * n // (10 * 100_000) <= 10**9


# -- rows and files ---------------------------------------------------------------------------------------------------


def test_a_row_is_as_long_as_it_is_said_to_be() -> None:
    row = rows.Row(b"i" * 16, 1, 2, 3, 4, 5, 6, WHOLE, 8)
    packed = rows.pack_row(*row)
    assert len(packed) == rows.ROW_BYTES
    assert rows.read_row(packed) == row
    assert rows.SHARE.unpack_from(packed, rows.SHARE_AT) == (WHOLE, 8)
    assert rows.JOURNAL_ROWS + rows.MOST_ROWS_OF_CHANGE * rows.ENTRY.size <= rows.HEAD_BYTES


def test_the_table_grows_with_what_is_in_use_and_counts_on(tmp_path: Path, table: LimitTable) -> None:
    consumers = range(0, 12_000 * SHARDS, SHARDS)
    assert all(table.take([of(n)])[0] for n in consumers)
    (file,) = (tmp_path / "limits").iterdir()
    assert file.stat().st_size > rows.file_bytes(1)
    assert all(remaining(table, of(n)) == [2] for n in consumers)


def test_limits_that_nobody_asks_for_make_way_for_others(tmp_path: Path, table: LimitTable, clock: FakeClock) -> None:
    for day in range(4):
        assert all(table.take([of(n)])[0] for n in range(day * 10**6, day * 10**6 + 5_000 * SHARDS, SHARDS))
        clock.advance(2 * 3600)
    (file,) = (tmp_path / "limits").iterdir()
    assert file.stat().st_size <= rows.file_bytes(2)


def test_a_limit_that_is_used_up_never_makes_way(table: LimitTable, clock: FakeClock) -> None:
    assert take_all(table, of(0, 1, DAY)) == 1
    clock.advance(2 * 3600)
    for n in range(SHARDS, 9_000 * SHARDS, SHARDS):
        assert table.take([of(n)])[0]
    assert take_all(table, of(0, 1, DAY)) == 0


def test_a_machine_that_started_anew_begins_with_an_empty_table(tmp_path: Path, clock: FakeClock) -> None:
    for boot in ("one", "two"):
        table = LimitTable(tmp_path, clock.elapsed, boot_id=boot)
        assert take_all(table, of(1)) == 3
        table.close()
    assert len(list(tmp_path.iterdir())) == 1


GARBAGE = [b"", b"x", b"x" * 100_000, rows.MAGIC, rows.MAGIC + bytes(100_000)]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["empty", "short", "foreign", "cut", "zeros"])
def test_a_file_that_is_none_is_replaced(
    tmp_path: Path, clock: FakeClock, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / f"{1 % SHARDS}.1"
    file.write_bytes(garbage)
    table = LimitTable(tmp_path, clock.elapsed)
    assert take_all(table, of(1)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["1.2"]
    if not garbage.startswith(rows.MAGIC):
        assert "counted anew" in caplog.text
    table.close()


@pytest.mark.parametrize("start", [0, rows.SEGMENTS, rows.JOURNAL, rows.JOURNAL_ROWS, rows.HEAD_BYTES])
def test_garbage_in_a_table_that_is_open_is_got_over(
    tmp_path: Path, table: LimitTable, clock: FakeClock, start: int
) -> None:
    take_all(table, of(1))
    (file,) = (tmp_path / "limits").iterdir()
    with file.open("r+b") as written:
        written.seek(start)
        written.write(bytes(range(1, 256)) * (40 if start else 200))
    for _ in range(3):
        table.take([of(1)])
    clock.advance(60)
    assert take_all(table, of(1)) == 3
    other = LimitTable(tmp_path / "limits", clock.elapsed)
    assert take_all(other, of(1)) == 0
    other.close()


ON_A_FULL_DISK = """
import contextlib, sys
from pathlib import Path
from keywright.edge.limits.table import Asked, LimitTable, consumer_limit_id

directory = Path(sys.argv[1])
table = LimitTable(directory / "limits", lambda: 1000.0)
def take(consumer):
    try:
        return table.take([Asked(consumer_limit_id(consumer, "burst"), 3, 60, True)])[0]
    except OSError as error:
        return error.strerror
def fill():
    with contextlib.suppress(OSError), (directory / "filler").open("wb", buffering=0) as filler:
        for piece in (bytes(4096), b"x"):
            with contextlib.suppress(OSError):
                while filler.write(piece):
                    pass
fill()
print(take(1), take(1))
(directory / "filler").unlink()
print(take(1), take(1))
fill()
print(take(2), take(1), take(1))
(directory / "filler").unlink()
print(take(2))
print(sorted(path.name for path in (directory / "limits").iterdir()))
"""


def test_a_row_of_garbage_is_counted_on_from(tmp_path: Path, table: LimitTable, clock: FakeClock) -> None:
    table.take([of(1)])
    (file,) = (tmp_path / "limits").iterdir()
    place = file.read_bytes().index(of(1).id)
    with file.open("r+b") as written:
        written.seek(place + rows.ID_BYTES)
        written.write(b"\xff" * (rows.ROW_BYTES - rows.ID_BYTES))
    assert table.take([of(1)])[0] in (True, False)
    clock.advance(60)
    assert take_all(table, of(1, is_global=False)) == 3


def test_a_full_disk_is_an_error_and_counting_goes_on_when_there_is_room(tmp_path: Path) -> None:
    command = (*mounted(tmp_path / "disk", 2), sys.executable, "-c", ON_A_FULL_DISK, str(tmp_path / "disk"))
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.splitlines() == [
        "No space left on device No space left on device",
        "True True",
        "No space left on device True False",
        "True",
        "['1.1', '2.1']",
    ]


def test_nothing_is_made_before_it_is_needed(tmp_path: Path, clock: FakeClock) -> None:
    LimitTable(tmp_path / "limits", clock.elapsed).close()
    assert not (tmp_path / "limits").exists()


def test_files_are_for_their_owner_alone(tmp_path: Path, table: LimitTable) -> None:
    table.take([of(1)])
    assert (tmp_path / "limits").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "limits").iterdir()} == {0o600}


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
