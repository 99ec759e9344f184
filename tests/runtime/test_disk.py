"""The reserve of room on a disk: made where there is enough, given up once, and made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywright.runtime import disk as disks
from keywright.runtime.disk import FILE, MIB, Disk


def test_a_reserve_takes_room_on_the_disk_until_it_is_given_up(tmp_path: Path) -> None:
    disk = Disk([tmp_path], 2 * MIB)
    assert disk.held_bytes == 0
    disk.restore()
    found = (tmp_path / FILE).stat()
    assert (disk.held_bytes, found.st_blocks * 512 >= 2 * MIB, found.st_mode & 0o777) == (2 * MIB, True, 0o600)
    assert disk.give_up()
    assert not disk.give_up()
    disk.restore()
    assert disk.held_bytes == 2 * MIB


def test_a_reserve_that_was_left_half_made_or_larger_is_made_right(tmp_path: Path) -> None:
    for left in (1, 3 * MIB):
        (tmp_path / FILE).write_bytes(bytes(left))
        Disk([tmp_path], 2 * MIB).restore()
        assert (tmp_path / FILE).stat().st_size == 2 * MIB


def test_without_a_reserve_nothing_is_kept_and_no_disk_is_low(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(bytes(10))
    disk = Disk([tmp_path], 0)
    disk.restore()
    assert (disk.held_bytes, disk.is_low, list(tmp_path.iterdir())) == (0, False, [])
    assert disk.free_bytes > 0


ROOM = [
    (12, True, False),
    (5, True, False),
    (4, True, True),
    (0, True, True),
    # What was given up is no room for everybody.
    (11, False, True),
    (15, False, False),
]


@pytest.mark.parametrize(("free", "is_held", "is_low"), ROOM)
def test_a_disk_is_low_when_less_than_half_a_reserve_is_free_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, is_held: bool, is_low: bool
) -> None:
    disk = Disk([tmp_path], 10)
    monkeypatch.setattr(disks._Place, "free_bytes", free)
    monkeypatch.setattr(disks._Place, "held_bytes", 10 if is_held else 0)
    assert disk.is_low is is_low


def test_directories_of_one_disk_have_one_reserve(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    Disk([tmp_path, tmp_path / "inner"], MIB).restore()
    assert [path.name for path in tmp_path.rglob(FILE)] == [FILE]
