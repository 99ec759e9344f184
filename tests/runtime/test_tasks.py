"""A task that is ended has ended, also when a cancellation gets lost."""

from __future__ import annotations

import asyncio

import pytest

from keywright.runtime import tasks


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.05)
    lost = 0

    async def lose_two() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    losing, fine, failed = (asyncio.create_task(one) for one in (lose_two(), asyncio.sleep(60), _fail()))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.end(losing, fine, failed)
    assert (lost, losing.cancelled(), fine.cancelled()) == (2, True, True)
    assert isinstance(failed.exception(), OSError)


async def test_nothing_is_ended_at_once() -> None:
    await tasks.end()


async def _fail() -> None:
    raise OSError
