"""What was counted gets into the spool within a minute, and what does not is said."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from keywright.domain.verdict import Verdict
from keywright.edge.usage import epoch_file, sealer
from keywright.edge.usage.counter import UsageCounter
from keywright.protocol.usage import MAX_ROWS, LossReason
from keywright.runtime import atomic_file
from support.clock import FakeClock
from support.usage import CountingProcess, total_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def process(tmp_path: Path, clock: FakeClock) -> CountingProcess:
    return CountingProcess(tmp_path / "usage", clock)


def test_counts_are_sealed_within_a_minute_and_numbered_from_one_on(process: CountingProcess) -> None:
    process.use(None, 5, Verdict.UNKNOWN)
    for _ in range(58):
        process.tick()
    assert process.batches() == []
    for _ in range(4):
        process.tick()
    process.use(None, 2, Verdict.UNKNOWN)
    process.seal()
    first, second = process.batches()
    assert [(one.first_number, one.number, total_of([one])) for one in (first, second)] == [(1, 1, 5), (2, 2, 2)]
    assert first.epoch == second.epoch
    assert first.until <= first.sealed_at
    assert second.until > first.until


def test_first_use_of_a_key_is_sealed_within_seconds_and_the_next_ones_are_not(process: CountingProcess) -> None:
    process.use(1, 3)
    process.tick()
    process.tick()
    process.tick()
    [batch] = process.batches()
    assert [(row.key_id, row.total) for row in batch.rows] == [("key_1", 1)]
    # It does not say that all was told: the other two uses were not.
    assert batch.until < process.clock.millis() - 3000
    process.use(1)
    for _ in range(5):
        process.tick()
    assert len(process.batches()) == 1
    process.seal()
    assert total_of(process.batches()) == 4


def test_first_uses_are_sealed_more_seldom_the_more_keys_are_in_use(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "FIRST_USES_A_SECOND", 2)
    process.tick(50.0)
    for key in range(40):
        process.use(key)
    process.tick()
    for key in range(40, 80):
        process.use(key)
    for _ in range(30):
        process.tick()
    [batch] = process.batches()
    assert total_of([batch]) == 40
    for _ in range(20):
        process.tick()
    assert total_of(process.batches()) == 80


def test_five_minutes_are_enough_where_very_many_keys_are_in_use(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "SEEN_KEPT", 1)
    process.use()
    process.tick()
    process.use(times=3)
    for _ in range(280):
        process.tick()
    assert total_of(process.batches()) == 1
    for _ in range(25):
        process.tick()
    assert total_of(process.batches()) == 4


def test_hour_that_ends_is_sealed_at_once(process: CountingProcess) -> None:
    process.clock.wall = 1_800_000_000 - 1_800_000_000 % 3600 + 3590
    process.tick()
    process.tick()
    process.use(None, 3, Verdict.UNKNOWN)
    process.tick(9.0)
    process.tick()
    process.use(None, 1, Verdict.UNKNOWN)
    process.tick()
    process.tick()
    hours = sorted((row.hour, row.total) for batch in process.batches() for row in batch.rows)
    assert hours[0][1] == 3
    assert len({hour for hour, _ in hours}) in {1, 2}


def test_more_rows_than_a_batch_has_are_several_batches_and_only_the_last_says_that_is_all(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "MAX_ROWS", 10)
    for key in range(25):
        process.use(key, 2)
    process.seal()
    batches = process.batches()
    assert sorted(len(one.rows) for one in batches) == [5, 10, 10]
    assert total_of(batches) == 50
    assert len({one.until for one in batches[:-1]}) == 1
    assert batches[-1].until > batches[0].until
    assert MAX_ROWS == 10_000


def test_process_that_ends_leaves_all_in_the_spool_and_no_epoch(process: CountingProcess, tmp_path: Path) -> None:
    process.use(1, 7)
    process.sealer.close()
    assert total_of(process.batches()) == 7
    assert epoch_file.list_living(tmp_path / "usage") == []
    after = CountingProcess(tmp_path / "usage", process.clock)
    after.seal()
    assert [batch.losses for batch in after.batches()] == [()]


def test_kill_loses_no_more_than_the_last_interval_and_that_is_said(process: CountingProcess, tmp_path: Path) -> None:
    process.use(1, 5)
    process.seal()
    sealed_until = epoch_file.list_living(tmp_path / "usage")[0].until
    process.use(1, 3)
    process.clock.advance(30)
    process.kill()
    after = CountingProcess(tmp_path / "usage", process.clock)
    [loss] = [loss for batch in after.batches() for loss in batch.losses]
    assert (loss.reason, loss.lost, loss.since, loss.until) == (
        LossReason.KILLED, None, sealed_until, process.clock.millis(),
    )  # fmt: skip
    assert total_of(after.batches()) == 5
    assert len(epoch_file.list_living(tmp_path / "usage")) == 1


def test_process_that_lives_tells_of_one_that_was_killed_beside_it(process: CountingProcess, tmp_path: Path) -> None:
    beside = CountingProcess(tmp_path / "usage", process.clock)
    beside.use(1, 3)
    beside.kill()
    for _ in range(12):
        process.tick()
    assert [loss.reason for batch in process.batches() for loss in batch.losses] == [LossReason.KILLED]


def test_idle_process_says_up_to_when_nothing_is_missing(process: CountingProcess, tmp_path: Path) -> None:
    process.tick(40.0)
    [living] = epoch_file.list_living(tmp_path / "usage")
    assert living.until == process.clock.millis() - sealer.SLACK_MILLIS
    process.use(1, 2)
    process.tick(5.0)
    [living] = epoch_file.list_living(tmp_path / "usage")
    assert living.until == process.clock.millis() - 5000 - sealer.SLACK_MILLIS
    assert process.batches() == []


def test_full_disk_keeps_counts_in_memory_and_no_number_is_left_out(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process.use(1, 4)
    with monkeypatch.context() as full:
        full.setattr(atomic_file, "write", no_room)
        process.seal()
        process.use(1, 4)
        process.seal()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    process.tick()
    process.use(1, 1)
    process.seal()
    batches = process.batches()
    assert [one.number for one in batches] == list(range(1, len(batches) + 1))
    assert total_of(batches) == 9


def test_counts_that_could_not_be_kept_are_told_by_their_number(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "MOST_UNSEALED", 3)
    with monkeypatch.context() as full:
        full.setattr(atomic_file, "write", no_room)
        for key in range(4):
            process.use(key, 2)
        process.seal()
    process.tick()
    [loss] = [loss for batch in process.batches() for loss in batch.losses]
    assert (loss.reason, loss.lost) == (LossReason.NOT_KEPT, 8)
    assert total_of(process.batches()) == 0


def test_what_the_counter_had_no_room_for_is_told(process: CountingProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(process.counter, UsageCounter)
    process.use(1)
    process.counter.missed = 12
    process.seal()
    assert [(loss.reason, loss.lost) for batch in process.batches() for loss in batch.losses] == [
        (LossReason.NOT_KEPT, 12)
    ]


def test_file_whose_directory_could_not_be_synced_has_its_number_all_the_same(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "no")

    process.use(1, 2)
    with monkeypatch.context() as broken:
        broken.setattr(atomic_file, "sync_directory", fail)
        process.seal()
    process.use(1, 3)
    process.seal()
    assert [(one.number, total_of([one])) for one in process.batches()] == [(1, 2), (2, 3)]


def test_epoch_that_was_given_up_is_followed_by_another(process: CountingProcess, tmp_path: Path) -> None:
    process.use(1, 2)
    process.seal()
    [before] = process.batches()
    epoch_file.give_up(tmp_path / "usage", before.epoch)
    process.use(1, 3)
    process.seal()
    epochs = {one.epoch: (one.number, total_of([one])) for one in process.batches()}
    assert sorted(epochs.values()) == [(1, 2), (1, 3)]
    assert sorted(os.listdir(tmp_path / "usage"))[-1].endswith((".epoch", ".batch", "room.lock"))
    assert [living.epoch for living in epoch_file.list_living(tmp_path / "usage")] == [
        next(epoch for epoch in epochs if epoch != before.epoch)
    ]


def test_process_that_sealed_nothing_for_a_day_draws_another_epoch(process: CountingProcess) -> None:
    process.use(1)
    process.seal()
    process.tick(90_000.0)
    process.use(1)
    process.seal()
    assert len({one.epoch for one in process.batches()}) == 2
    assert {one.number for one in process.batches()} == {1}


def no_room(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
