"""A commit on PostgreSQL is heard by every process on the record; where it can't be, that is known and said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keywright.origin.db import commit_listener as commits
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
    monkeypatch.setattr(commits, "LONGEST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(commits, "DEAF_PAUSE_SECONDS", 0.05)


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[asyncio.Event]:
    """The bell of a process on the record."""
    rung = asyncio.Event()
    database.commits.subscribe(rung.set)
    task = asyncio.create_task(database.commits.listen())
    try:
        yield rung
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert not database.commits.is_heard


async def commit(database: Database) -> None:
    async with database.write() as tx:
        tx.record(Hidden())


async def test_a_commit_rings_in_every_process_and_what_is_rolled_back_in_none(on_postgres: Record) -> None:
    one, other = on_postgres.another_database(), on_postgres.another_database()
    async with listening(one) as here, listening(other) as there:
        await until(lambda: one.commits.is_heard and other.commits.is_heard)
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
    async with listening(database) as rung:
        assert heard.poll_seconds(0.05) == 0.05
        await until(lambda: heard.is_heard)
        assert heard.poll_seconds(0.05) == commits.SLOW_POLL_SECONDS
        # A connection that is lost is made anew, and then rings for what was committed meanwhile.
        rung.clear()
        name = str(database.engine.url.database)
        postgres.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND query ~ 'LISTEN'"
        )
        async with asyncio.timeout(30):
            await rung.wait()
        await until(lambda: heard.is_heard)


async def test_a_database_that_is_away_is_listened_to_when_it_is_there(on_postgres: Record, postgres: Postgres) -> None:
    with Proxy(postgres.port) as proxy:
        proxy.cut()
        url = on_postgres.database.engine.url.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database(url)
        async with listening(database):
            await asyncio.sleep(0.1)
            assert not database.commits.is_heard
            proxy.heal()
            await until(lambda: database.commits.is_heard)
        await database.close()


async def test_behind_what_brings_no_notifications_it_is_said_once_and_others_are_rung_all_the_same(
    on_postgres: Record, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind a pooler in transaction mode. Here a proxy gives each notification another name."""
    monkeypatch.setattr(commits, "ECHO_SECONDS", 0.2)
    other = on_postgres.another_database()
    with Proxy(postgres.port) as proxy:
        proxy.tamper = lambda data: data.replace(b"keywright_", b"keywrong__")
        url = on_postgres.database.engine.url.set(port=proxy.port).render_as_string(hide_password=False)
        deaf = Database(url + "?ssl=disable")
        with caplog.at_level(logging.WARNING):
            async with listening(deaf):
                await until(lambda: proxy.connections >= 3)
        assert caplog.text.count("by polling alone") == 1
        assert (deaf.commits.is_heard, deaf.commits.can_notify) == (False, True)
        monkeypatch.undo()
        async with listening(other) as rung:
            await until(lambda: other.commits.is_heard)
            rung.clear()
            await commit(deaf)
            async with asyncio.timeout(30):
                await rung.wait()
        await deaf.close()


async def test_sqlite_has_no_bell_and_is_polled(tmp_path: Path) -> None:
    async with records.opened(f"sqlite+aiosqlite:///{tmp_path}/keywright.db") as record:
        async with asyncio.timeout(10):
            await record.database.commits.listen()
        await commit(record.database)
        assert not record.database.commits.is_heard


async def test_a_connection_to_what_became_a_standby_fails_once_and_is_not_used_again(on_postgres: Record) -> None:
    """A demoted primary keeps its connections, and takes no writes on them for ever."""
    database = on_postgres.another_database()
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("SET default_transaction_read_only = on")
        await connection.commit()
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await commit(database)
    await commit(database)
