"""The last process on a replica is known to be the last; whoever may still answer keeps others from saying goodbye."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keywright.edge.sync.presence import FILE_NAME, Presence, held_for_reading

if TYPE_CHECKING:
    from pathlib import Path


async def present(path: Path) -> Presence:
    one = Presence(path)
    await one.enter()
    return one


async def test_of_several_processes_the_last_one_knows_that_it_is_alone(tmp_path: Path) -> None:
    ones = [await present(tmp_path) for _ in range(3)]
    told = []
    for one in ones:
        with one.leave() as is_last:
            told.append(is_last)
    assert told == [False, False, True]


async def test_a_reader_of_somebody_elses_replica_counts_as_one_who_may_answer(tmp_path: Path) -> None:
    one = await present(tmp_path)
    with held_for_reading(tmp_path), one.leave() as is_last:
        assert not is_last
    one = await present(tmp_path)
    with one.leave() as is_last:
        assert is_last


async def test_who_comes_while_goodbye_is_said_waits_until_that_is_over(tmp_path: Path) -> None:
    one = await present(tmp_path)
    with one.leave() as is_last:
        assert is_last
        coming = asyncio.create_task(present(tmp_path))
        await asyncio.sleep(0.2)
        assert not coming.done()
    await asyncio.wait_for(coming, 5)


async def test_where_no_lock_can_be_had_nobody_is_the_last(tmp_path: Path) -> None:
    one = await present(tmp_path / "not-there")
    with held_for_reading(tmp_path / "not-there"), one.leave() as is_last:
        assert not is_last
    assert not (tmp_path / FILE_NAME).exists()
