"""A task that is ended has ended, also when a cancellation gets lost."""

from __future__ import annotations

import asyncio
import threading

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


async def test_a_thread_that_is_waited_for_has_ended_when_a_cancellation_is_heard() -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def work(what: str) -> str:
        begun.set()
        go_on.wait(10)
        seen.append(what)
        return what

    waiting = asyncio.create_task(tasks.in_thread(work, "done"))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert seen == ["done"]
    assert await tasks.in_thread(work, "again") == "again"
    with pytest.raises(ValueError, match="int"):
        await tasks.in_thread(int, "none")
