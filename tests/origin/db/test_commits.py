"""A commit on PostgreSQL is heard by every process on the record; where it can't be, that is known and said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keywright.origin.db import commit_listener
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database
from keywright.protocol.changes import Hidden
from support import record as records
from support.postgres import Postgres
from support.proxy import Proxy
from support.record import Record
from support.waiting import until


@pytest.fixture
async def on_postgres(postgres: Postgres) -> AsyncIterator[Record]:
    async with records.opened(postgres.new_database()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_listener, "LONGEST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(commit_listener, "UNAVAILABLE_PAUSE_SECONDS", 0.05)


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[asyncio.Event]:
    """What wakes a process on the record."""
    woken = asyncio.Event()
    database.commits.subscribe(woken.set)
    task = asyncio.create_task(database.commits.listen())
    try:
        yield woken
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert not database.commits.is_listening


async def commit(database: Database) -> None:
    async with database.write() as tx:
        tx.record(Hidden())


async def test_a_commit_wakes_every_process_and_what_is_rolled_back_none(on_postgres: Record) -> None:
    one, other = on_postgres.another_database(), on_postgres.another_database()
    async with listening(one) as here, listening(other) as there:
        await until(lambda: one.commits.is_listening and other.commits.is_listening)
        for _ in range(3):
            here.clear()
            there.clear()
            with pytest.raises(ZeroDivisionError):
                await _fail(one)
            async with one.write():
                pass
            assert not there.is_set()
            await commit(one)
            async with asyncio.timeout(30):
                await asyncio.gather(here.wait(), there.wait())


async def _fail(database: Database) -> None:
    async with database.write() as tx:
        tx.record(Hidden())
        await tx.number_changes()
        raise ZeroDivisionError


async def test_while_commits_are_heard_a_subscriber_polls_slowly_and_else_fast(
    on_postgres: Record, postgres: Postgres
) -> None:
    database = on_postgres.another_database()
    heard = database.commits
    async with listening(database) as woken:
        assert heard.poll_seconds(0.05) == 0.05
        await until(lambda: heard.is_listening)
        assert heard.poll_seconds(0.05) == commit_listener.SLOW_POLL_SECONDS
        # A connection that is lost is made anew, and then wakes for what was committed meanwhile.
        woken.clear()
        name = str(database.engine.url.database)
        postgres.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND query ~ 'LISTEN'"
        )
        async with asyncio.timeout(30):
            await woken.wait()
        await until(lambda: heard.is_listening)


async def test_a_database_that_is_away_is_listened_to_when_it_is_there(on_postgres: Record, postgres: Postgres) -> None:
    with Proxy(postgres.port) as proxy:
        proxy.cut()
        url = on_postgres.database.engine.url.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database(url)
        async with listening(database):
            await asyncio.sleep(0.1)
            assert not database.commits.is_listening
            proxy.heal()
            await until(lambda: database.commits.is_listening)
        await database.close()


async def test_behind_what_brings_no_notifications_it_is_said_once_and_others_are_woken_all_the_same(
    on_postgres: Record, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind a pooler in transaction mode. Here a proxy gives each notification another name."""
    monkeypatch.setattr(commit_listener, "ECHO_SECONDS", 0.2)
    other = on_postgres.another_database()
    with Proxy(postgres.port) as proxy:
        proxy.tamper = lambda data: data.replace(b"keywright_", b"keywrong__")
        url = on_postgres.database.engine.url.set(port=proxy.port).render_as_string(hide_password=False)
        unheard = Database(url + "?ssl=disable")
        with caplog.at_level(logging.WARNING):
            async with listening(unheard):
                await until(lambda: proxy.connections >= 3)
        assert caplog.text.count("by polling alone") == 1
        assert (unheard.commits.is_listening, unheard.commits.can_notify) == (False, True)
        monkeypatch.undo()
        async with listening(other) as woken:
            await until(lambda: other.commits.is_listening)
            woken.clear()
            await commit(unheard)
            async with asyncio.timeout(30):
                await woken.wait()
        await unheard.close()


async def test_sqlite_has_no_notifications_and_is_polled(tmp_path: Path) -> None:
    async with records.opened(f"sqlite+aiosqlite:///{tmp_path}/keywright.db") as record:
        async with asyncio.timeout(10):
            await record.database.commits.listen()
        await commit(record.database)
        assert not record.database.commits.is_listening


async def test_a_connection_to_what_became_a_standby_fails_once_and_is_not_used_again(on_postgres: Record) -> None:
    """A demoted primary keeps its connections, and takes no writes on them for ever."""
    database = on_postgres.another_database()
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("SET default_transaction_read_only = on")
        await connection.commit()
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await commit(database)
    await commit(database)
