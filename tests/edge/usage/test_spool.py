"""The spool is bounded, and says what it has lost; what is damaged is never sent."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from keywright.domain.verdict import Verdict
from keywright.edge.usage import epoch_file
from keywright.edge.usage.epoch_file import EpochFile, LivingEpoch
from keywright.edge.usage.spool import MOST_SET_ASIDE, SpoolStatus
from keywright.protocol import usage
from keywright.protocol.usage import MAX_LOSSES, LossReason, UsageError
from support.clock import FakeClock
from support.usage import CountingProcess, draw, total_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def process(tmp_path: Path) -> CountingProcess:
    return CountingProcess(tmp_path / "usage", FakeClock())


def fill(process: CountingProcess, batches: int, keys: int = 0) -> None:
    for _ in range(batches):
        process.use(None, 3)
        for key in range(keys):
            process.use(key, 1, Verdict.EXPIRED)
        process.seal()


def test_batches_wait_in_the_order_of_their_numbers(process: CountingProcess) -> None:
    fill(process, 12)
    waiting = process.spool.list_waiting()
    assert [one.number for one in waiting] == list(range(1, 13))
    assert [one.since for one in waiting] == sorted(one.since for one in waiting)
    assert all(process.spool.read(one) == one.path.read_bytes() for one in waiting)


def test_epoch_that_has_waited_longest_comes_first(process: CountingProcess, tmp_path: Path) -> None:
    fill(process, 2)
    later = CountingProcess(tmp_path / "usage", process.clock)
    fill(later, 1)
    fill(process, 1)
    numbers = [one.number for one in process.spool.list_waiting()]
    assert numbers == [1, 2, 3, 1]


def test_status_tells_what_waits_and_since_when(process: CountingProcess) -> None:
    assert process.spool.status() == SpoolStatus(0, 0, None)
    began = process.clock.wall
    fill(process, 3)
    (process.spool.directory / "another-file").write_text("no batch")
    status = process.spool.status()
    assert (status.files, status.size) == (3, sum(one.size for one in process.spool.list_waiting()))
    assert status.oldest_at is not None
    assert abs(status.oldest_at - began) < 65


def test_full_spool_loses_the_oldest_and_says_how_many(process: CountingProcess) -> None:
    fill(process, 20, keys=100)
    size = process.spool.status().size
    process.spool.most_bytes = size // 2
    dropped = process.spool.make_room(process.counting.stand_in)
    assert 10 <= dropped < 20
    assert process.spool.status().size <= size // 2
    first, *rest = process.batches()
    assert (first.first_number, first.number, first.is_stand_in) == (1, dropped, True)
    assert sum(loss.lost or 0 for loss in first.losses) == 103 * dropped
    assert {loss.reason for loss in first.losses} == {LossReason.SPOOL_FULL}
    assert [one.number for one in rest] == list(range(dropped + 1, 21))
    assert total_of(rest) == 103 * (20 - dropped)
    # Nothing is dropped that there is room for.
    assert process.spool.make_room(process.counting.stand_in) == 0


def test_what_stands_for_lost_batches_is_bounded_itself(
    process: CountingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MAX_LOSSES", 4)
    fill(process, 10)
    process.spool.most_bytes = 1
    assert process.spool.make_room(process.counting.stand_in) == 10
    standing = process.batches()
    assert [(one.first_number, one.number, len(one.losses)) for one in standing] == [(1, 4, 4), (5, 8, 4), (9, 10, 2)]
    assert MAX_LOSSES == 200


def test_one_process_at_a_time_makes_room(process: CountingProcess) -> None:
    fill(process, 3)
    process.spool.most_bytes = 1
    dropped_within: list[int] = []

    def stand_in(*told: object) -> usage.UsageBatch:
        dropped_within.append(process.spool.make_room(process.counting.stand_in))
        return process.counting.stand_in(*told)  # type: ignore[arg-type]

    assert process.spool.make_room(stand_in) == 3
    assert set(dropped_within) == {0}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-1], id="cut off"),
        pytest.param(lambda content: content[:9] + bytes([content[9] ^ 1]) + content[10:], id="a bit"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\x00" * 300, id="nothing but zeros"),
    ],
)
def test_damaged_file_is_not_read(process: CountingProcess, damage: object) -> None:
    fill(process, 1)
    [waiting] = process.spool.list_waiting()
    waiting.path.write_bytes(damage(waiting.path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UsageError, match="not what it was"):
        process.spool.read(waiting)


def test_file_under_another_batch_s_name_is_not_read(process: CountingProcess) -> None:
    fill(process, 1)
    [waiting] = process.spool.list_waiting()
    renamed = waiting.path.with_name(
        waiting.path.name.replace("-000000000001-000000000001-", "-000000000002-000000000002-")
    )
    waiting.path.rename(renamed)
    [waiting] = process.spool.list_waiting()
    with pytest.raises(UsageError, match="another batch"):
        process.spool.read(waiting)


def test_file_that_is_gone_is_nothing(process: CountingProcess) -> None:
    fill(process, 1)
    [waiting] = process.spool.list_waiting()
    process.spool.remove(waiting)
    process.spool.remove(waiting)
    assert process.spool.read(waiting) is None


def test_files_set_aside_are_bounded(process: CountingProcess) -> None:
    fill(process, 1)
    [waiting] = process.spool.list_waiting()
    aside = process.spool.directory / "set-aside"
    aside.mkdir()
    for number in range(MOST_SET_ASIDE - 1):
        (aside / str(number)).touch()
    copied = waiting.path.with_name(waiting.path.name.replace(waiting.digest, "0" * 64))
    shutil.copy(waiting.path, copied)
    for one in process.spool.list_waiting():
        process.spool.set_aside(one, "a test")
    assert len(os.listdir(aside)) == MOST_SET_ASIDE
    assert process.spool.list_waiting() == []


def test_what_a_kill_left_half_written_goes_after_a_while(process: CountingProcess) -> None:
    left = process.spool.directory / ".something.batch.1.2.part"
    young = process.spool.directory / ".something.batch.3.4.part"
    left.touch()
    young.touch()
    os.utime(left, (0, 0))
    process.spool.clean()
    assert (left.exists(), young.exists()) == (False, True)


def test_epoch_of_a_living_process_is_nobody_else_s_to_take(tmp_path: Path) -> None:
    file = EpochFile(tmp_path, draw(), 7)
    with epoch_file.take_killed(tmp_path) as killed:
        assert killed == []
    assert epoch_file.list_living(tmp_path) == [LivingEpoch(file.epoch, 7)]
    os.close(file._descriptor)
    with epoch_file.take_killed(tmp_path) as killed:
        assert killed == [LivingEpoch(file.epoch, 7)]
        with epoch_file.take_killed(tmp_path) as again:
            assert again == []
    assert epoch_file.list_living(tmp_path) == []


def test_killed_process_stays_known_until_it_was_told_of(tmp_path: Path) -> None:
    os.close(EpochFile(tmp_path, draw(), 7)._descriptor)

    def tell() -> None:
        with epoch_file.take_killed(tmp_path):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        tell()
    with epoch_file.take_killed(tmp_path) as killed:
        assert [one.until for one in killed] == [7]


def test_moment_that_was_torn_is_not_known(tmp_path: Path) -> None:
    file = EpochFile(tmp_path, draw(), 7)
    os.pwrite(file._descriptor, b"\x01", 0)
    assert epoch_file.list_living(tmp_path) == [LivingEpoch(file.epoch, None)]
    os.ftruncate(file._descriptor, 3)
    assert epoch_file.list_living(tmp_path) == [LivingEpoch(file.epoch, None)]
    file.close()
