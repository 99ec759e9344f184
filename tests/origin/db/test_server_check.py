"""A database, or a pooler before it, that can't hold the record is refused at the start; what works, works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from keywright.origin.db import server_check
from keywright.origin.db.server_check import UNHEARD, Unsuitable
from keywright.origin.db.transaction import Database
from keywright.protocol.changes import Hidden
from keywright.runtime.server import StartError
from keywright.serve import first_start
from support import pgbouncer, record
from support import service as services
from support.pgbouncer import PgBouncer
from support.postgres import Postgres
from support.waiting import until

WITHOUT_STATEMENTS = "?statement_cache_size=0"


@pytest.fixture(scope="module")
def by_transaction(postgres: Postgres) -> Iterator[PgBouncer]:
    """As PgBouncer before 1.21, whichever version it is."""
    settings = {"max_prepared_statements": 0} if pgbouncer.version() >= pgbouncer.STATEMENTS_SINCE else {}
    with pgbouncer.running(postgres, **settings) as bouncer:
        yield bouncer


async def check(url: str) -> tuple[str, ...]:
    database = Database(url)
    try:
        return await server_check.check(database)
    finally:
        await database.close()


async def test_a_plain_postgresql_is_taken_and_heard(postgres: Postgres) -> None:
    assert await check(postgres.new_database()) == ()


async def test_sqlite_is_asked_nothing(tmp_path: Path) -> None:
    assert await check(f"sqlite+aiosqlite:///{tmp_path}/keywright.db") == ()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_can_not_hold_every_letter_is_refused(
    postgres: Postgres, tmp_path: Path, encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    postgres.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    settings = services.settings_for(tmp_path / "data", postgres.url(name))
    for start in (first_start.prepare(settings), first_start.migrate(settings)):
        with pytest.raises(StartError, match=rf"has the encoding {encoding}.*ENCODING 'UTF8'"):
            await start
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("settings", [{}, {"server_round_robin": 1}, {"default_pool_size": 1}])
async def test_a_pooler_that_forgets_statements_is_found_out(
    postgres: Postgres, by_transaction: PgBouncer, settings: dict[str, int]
) -> None:
    if pgbouncer.version() >= pgbouncer.STATEMENTS_SINCE:
        settings = {**settings, "max_prepared_statements": 0}
    with pgbouncer.running(postgres, **settings) as bouncer:
        for _ in range(3):
            with pytest.raises(Unsuitable, match="pool sessions, or add statement_cache_size=0"):
                await check(bouncer.url(postgres.new_database()))


async def test_a_pooler_is_judged_by_what_it_does(postgres: Postgres) -> None:
    """With what has PgBouncer keep statements, where it is of a version that can."""
    can_keep = pgbouncer.version() >= pgbouncer.STATEMENTS_SINCE
    with pgbouncer.running(postgres, **({"max_prepared_statements": 200} if can_keep else {})) as bouncer:
        url = bouncer.url(postgres.new_database())
        if can_keep:
            assert await check(url) == (UNHEARD,)
        else:
            with pytest.raises(Unsuitable):
                await check(url)


async def test_a_pooler_of_sessions_is_taken_and_heard(postgres: Postgres) -> None:
    with pgbouncer.running(postgres, pool_mode="session") as bouncer:
        assert await check(bouncer.url(postgres.new_database())) == ()


async def test_serve_refuses_that_pooler_and_says_what_to_do(
    postgres: Postgres, by_transaction: PgBouncer, tmp_path: Path
) -> None:
    settings = services.settings_for(tmp_path / "data", by_transaction.url(postgres.new_database()))
    with pytest.raises(StartError, match=r"^can't use the database in 127\.0\.0\.1:\d+/test_\d+: a pooler before"):
        await first_start.prepare(settings)


async def test_without_prepared_statements_all_works_through_it(
    postgres: Postgres, by_transaction: PgBouncer, tmp_path: Path
) -> None:
    url = by_transaction.url(postgres.new_database(), WITHOUT_STATEMENTS)
    settings = services.settings_for(tmp_path / "data", url)
    started = await first_start.prepare(settings)
    assert started.notes == (UNHEARD,)
    async with services.running(settings) as service:

        async def use(number: int) -> str:
            made = await service.new_consumer(name=f"use-{number}", apiKeys=[{}])
            await service.call("GET", f"{service.consumers_url}/use-{number}")
            await service.call("PATCH", f"{service.consumers_url}/use-{number}", json={"tags": {"n": str(number)}})
            return await service.verdict(made["apiKeys"][0]["key"])

        for begin in range(0, 60, 20):
            assert set(await asyncio.gather(*(use(begin + number) for number in range(20)))) == {"VALID"}


async def test_behind_it_a_note_to_oneself_is_not_taken_for_hearing_others(
    postgres: Postgres, by_transaction: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer hands on what comes before the transaction's end, to whoever has the connection then."""
    monkeypatch.setattr("keywright.origin.db.commit_listener.ECHO_SECONDS", 0.3)
    async with record.opened(postgres.new_database()) as opened:
        through = Database(by_transaction.url(str(opened.database.engine.url), WITHOUT_STATEMENTS))
        task = asyncio.create_task(through.commits.listen())
        try:
            await until(lambda: through.commits.can_notify)
            await asyncio.sleep(0.5)
            assert not through.commits.is_listening
            # What it writes is heard by who listens for real.
            async with through.write() as tx:
                tx.record(Hidden())
        finally:
            task.cancel()
            await asyncio.wait([task])
            await through.close()


async def test_a_large_snapshot_is_read_without_prepared_statements(
    postgres: Postgres, by_transaction: PgBouncer
) -> None:
    database = Database(by_transaction.url(postgres.new_database(), WITHOUT_STATEMENTS))
    async with database.read(is_snapshot=True) as tx:
        assert await tx.scalar(sa.text("SELECT current_setting('transaction_isolation')")) == "repeatable read"
        for _ in range(50):
            rows = await tx.all(sa.text("SELECT g, md5(g::text) FROM generate_series(1, 2000) g"))
            assert len(rows) == 2000
    await database.close()
