"""What a peer that may publish at the broker can't do: keep an edge out of step, or busy, or deaf to revocations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from nats.js.api import ConsumerInfo

from edge.sync.test_nats_feed import bring_in_step, feed, hurry, origin, sync_loop
from edge.world import key
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.nats_feed import NatsFeed, session
from keywright.nats.connection import Connection, connect
from keywright.nats.subjects import FOR_CHANGES
from keywright.protocol.changes import ConsumerDelete
from support.nats import subjects_of
from support.scripted_broker import SIGNER, ScriptedOrigin
from support.sync import new_sync_loop
from support.waiting import until

pytest_plugins = ["edge.conftest"]
__all__ = ["feed", "origin", "sync_loop"]

Send = Callable[[ScriptedOrigin, int], Awaitable[None]]


async def _bytes(origin: ScriptedOrigin, number: int) -> None:
    await origin.connection.publish(origin.subjects.heartbeats, b"junk %d" % number, origin.pepper_check)


async def _other_pepper(origin: ScriptedOrigin, _: int) -> None:
    await origin.connection.publish(origin.subjects.heartbeats, b"", "of another pepper")


async def _other_use(origin: ScriptedOrigin, _: int) -> None:
    await origin.heartbeat(lambda frame: replace(frame, nonce=FOR_CHANGES))


async def _other_deployment(origin: ScriptedOrigin, _: int) -> None:
    await origin.heartbeat(lambda frame: replace(frame, deployment_id="dply_2"))


async def _old(origin: ScriptedOrigin, number: int) -> None:
    await origin.heartbeat(lambda frame: replace(frame, time=frame.time - 3_600_000 + number))


async def _change(origin: ScriptedOrigin, number: int) -> None:
    """As a consumer would deliver it that was created with the heartbeats' subject."""
    at = origin.at(number % 4)
    frame = origin._frame(FOR_CHANGES, at, at)
    await origin.connection.publish(origin.subjects.heartbeats, SIGNER.encode(frame), origin.pepper_check)


async def _change_bytes(origin: ScriptedOrigin, number: int) -> None:
    subjects = origin.subjects
    await origin._put(subjects.changes_stream, subjects.changes, b"junk %d" % number)


async def _old_change(origin: ScriptedOrigin, _: int) -> None:
    await origin.put(1, origin.log[1:2])


async def _change_of_another(origin: ScriptedOrigin, _: int) -> None:
    await origin.put(4, origin.log[3:4], lambda frame: replace(frame, deployment_id="dply_2"))


JUNK: dict[str, Send] = {
    "heartbeats-of-bytes": _bytes,
    "heartbeats-under-another-pepper": _other_pepper,
    "heartbeats-for-another-use": _other_use,
    "heartbeats-of-another-deployment": _other_deployment,
    "heartbeats-of-long-ago": _old,
    "old-changes-as-heartbeats": _change,
    "changes-of-bytes": _change_bytes,
    "old-changes": _old_change,
    "changes-of-another-deployment": _change_of_another,
}


@asynccontextmanager
async def followed(loop: SyncLoop) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@asynccontextmanager
async def heartbeats(origin: ScriptedOrigin) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            await origin.heartbeat()
            await asyncio.sleep(0.2)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


@pytest.mark.parametrize("send", JUNK.values(), ids=JUNK)
async def test_junk_ends_no_round_and_takes_no_edge_out_of_step(
    origin: ScriptedOrigin,
    replica: Replica,
    feed: NatsFeed,
    sync_loop: SyncLoop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    send: Send,
) -> None:
    opened, rounds = count_connections(monkeypatch), count_rounds(monkeypatch, sync_loop)
    await bring_in_step(origin, sync_loop)
    async with followed(sync_loop), heartbeats(origin):
        before = len(rounds)
        for number in range(40):
            await send(origin, number)
            assert sync_loop.is_synced
        # As many as the true heartbeats, and no more.
        assert len(rounds) - before < 15
        await origin.commit(ConsumerDelete(1))
        await until(lambda: _is(replica.revision == 5 and sync_loop.is_synced))
    assert len(opened) == 1
    assert caplog.text.count("skipped") <= 1
    assert "can't follow" not in caplog.text


@pytest.mark.parametrize("send", [_change_bytes, _old_change, _change_of_another], ids=["bytes", "old", "another's"])
async def test_an_edge_that_begins_where_junk_stands_at_the_end_begins_with_the_present(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, send: Send
) -> None:
    await origin.commit(key("zpka_secret-3", 1, 1))
    await send(origin, 1)
    if send is not _change_of_another:
        await bring_in_step(origin, sync_loop)
        assert replica.revision == 5
    await origin.commit(ConsumerDelete(1))
    await bring_in_step(origin, sync_loop)
    assert replica.revision == 6


async def test_changes_that_lead_on_from_nowhere_cost_growing_pauses_and_no_consumers(
    origin: ScriptedOrigin, replica: Replica, feed: NatsFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a publisher that was led astray by an old message writes, until it writes a snapshot."""
    loop = new_sync_loop(replica, feed, poll_seconds=0.1, longest_pause_seconds=2.0)
    feed.on_message = loop.wake
    rounds = count_rounds(monkeypatch, loop)
    await bring_in_step(origin, loop)
    hurry(feed, silence_seconds=3.0)
    async with followed(loop), heartbeats(origin):
        origin.log.append(key("zpka_secret-3", 1, 1))
        await origin.put(3, origin.log[3:])
        await until(lambda: _is(not loop.is_synced))
        before = len(rounds)
        await asyncio.sleep(3)
        assert len(rounds) - before < 8
        assert await consumers(origin.connection) == []
        await origin.snapshot()
        await origin.put(5, ())
        await until(lambda: _is(loop.is_synced and replica.revision == 5))
    await loop.close()


async def consumers(connection: Connection) -> list[ConsumerInfo]:
    return list(await connection.client.jetstream().consumers_info(subjects_of(connection).changes_stream))


def count_connections(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    opened: list[None] = []

    async def count(*arguments: object) -> Connection:
        opened.append(None)
        return await connect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "connect", count)
    return opened


def count_rounds(monkeypatch: pytest.MonkeyPatch, loop: SyncLoop) -> list[None]:
    rounds: list[None] = []
    round_ = loop._round

    async def count() -> None:
        rounds.append(None)
        await round_()

    monkeypatch.setattr(loop, "_round", count)
    return rounds


async def _is(truth: bool) -> bool:
    return truth
