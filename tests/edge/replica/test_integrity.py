"""The integrity check: no damage to a replica's files goes unnoticed, and nothing else is taken for damage."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import pytest

from edge.world import PEPPER_CHECK, filled
from keywright.edge.replica import integrity
from keywright.edge.replica.files import MAP_SIZE, Files, ReplicaBroken
from keywright.edge.replica.integrity import IntegrityCheck, probe
from keywright.edge.replica.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_BYTES = 4096
BRANCH, LEAF = 0x01, 0x02
"""What kind a page of LMDB's is, in its flags."""
HEAD = struct.Struct("<QHHHH")
"""How a page of LMDB's begins: its number, padding, flags, and where the free space begins and ends."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Files]:
    with contextlib.closing(Files.open(path, MAP_SIZE, probe)) as files:
        yield files


def look_through(path: Path) -> None:
    """The whole check, in this process. Raises ReplicaBroken."""
    with opened(path) as files:
        check = IntegrityCheck(files)
        while not check.step(1000):
            pass


@pytest.mark.parametrize("size", [1, 16, 64])
def test_no_damage_to_a_file_leaves_a_wrong_answer_unnoticed(tmp_path: Path, size: int) -> None:
    """Wherever bytes are overwritten while nobody runs: it is seen by the check, which may die of it."""
    filled(tmp_path / "good")
    with_good = Replica.open(tmp_path / "good", PEPPER_CHECK)
    good, used = with_good.records(), with_good.used_bytes
    with_good.close()
    dice = random.Random(size)
    unnoticed = []
    for number in range(12):
        path = tmp_path / f"damaged-{number}"
        shutil.copytree(tmp_path / "good", path)
        with (path / "data.mdb").open("r+b") as file:
            file.seek(place := dice.randrange(used - size))
            file.write(dice.randbytes(size))
        if not asyncio.run(integrity.is_damaged(path)):
            with contextlib.closing(Replica.open(path, PEPPER_CHECK)) as replica:
                if replica.records() != good:
                    unnoticed.append(place)
        shutil.rmtree(path)
    assert unnoticed == []


def test_the_check_looks_at_everything_once(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path) as files:
        check, steps = IntegrityCheck(files), 1
        while not check.step(1000):
            steps += 1
        # One bucket by name and by number, 2000 consumers and as many keys; four databases for powers, and what has
        # ended.
        assert steps == 2 + 2 + 2 + 4 + 1 + 1
        assert check.step(1000)


def test_a_record_twice_in_place_of_its_neighbour_is_damage(tmp_path: Path) -> None:
    """The one that it hides is UNKNOWN from then on, though each record that is met is as it was written."""
    filled(tmp_path)
    look_through(tmp_path)
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    page = find_page(data, LEAF, entries=20)
    slot = page + HEAD.size + 2 * 10
    data[slot : slot + 2] = data[slot - 2 : slot]
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(ReplicaBroken, match="not in its place"):
        look_through(tmp_path)
    assert asyncio.run(integrity.is_damaged(tmp_path))


def test_a_record_that_is_not_found_from_above_is_damage(tmp_path: Path) -> None:
    """The records below stand in order, one after the other; but whoever looks for one of them is led past it."""
    filled(tmp_path)
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    page = find_page(data, BRANCH, entries=5)
    (node,) = struct.unpack_from("<H", data, page + HEAD.size + 2 * 3)
    # A node is 8 bytes of head, then the name of the first record below it: which is now before that name.
    last = page + node + 8 + struct.unpack_from("<H", data, page + node + 6)[0] - 1
    assert data[last] < 255
    data[last] += 1
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(ReplicaBroken, match="not in its place"):
        look_through(tmp_path)


def test_a_wrong_list_of_pages_for_reuse_is_damage(tmp_path: Path) -> None:
    """It hides no record, but what is written next would be put over one."""
    filled(tmp_path)
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    # Of the two first pages the one of the later transaction counts; it names the root of the lists.
    newest = max((0, PAGE_BYTES), key=lambda start: struct.unpack_from("<Q", data, start + 144))
    (root,) = struct.unpack_from("<Q", data, newest + 80)
    page = root * PAGE_BYTES
    assert HEAD.unpack_from(data, page)[2] == LEAF
    (node,) = struct.unpack_from("<H", data, page + HEAD.size)
    # Behind the node's head and its name, a transaction's number, the list begins with its length.
    place = page + node + 8 + 8
    struct.pack_into("<Q", data, place, struct.unpack_from("<Q", data, place)[0] + 1)
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(lmdb.Error):
        look_through(tmp_path)
    assert asyncio.run(integrity.is_damaged(tmp_path))


def find_page(data: bytearray, kind: int, *, entries: int) -> int:
    """Where the last page of this kind begins that has at least so many entries: what is in use is written last."""
    for start in reversed(range(0, len(data), PAGE_BYTES)):
        _, _, flags, free, _ = HEAD.unpack_from(data, start)
        if flags == kind and (free - HEAD.size) // 2 >= entries:
            return start
    raise AssertionError("there is no such page")


def test_what_merely_keeps_the_check_from_its_work_is_no_damage(tmp_path: Path) -> None:
    assert not asyncio.run(integrity.is_damaged(Path("/proc/none")))
    filled(tmp_path)
    assert not asyncio.run(integrity.is_damaged(tmp_path))
