"""What PostgreSQL raises and what a caller hears of it: what means "later" is never taken for a bug of ours.

Every code is raised by a real server and comes through the driver; those that can be caused are caused as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from keywright.origin.db.engine import DatabaseUnavailable, DiskFailed, DiskFull, MissingReference, UniqueViolation
from keywright.origin.db.error_codes import POSTGRESQL, Meaning
from keywright.origin.db.transaction import Database
from support.postgres import Postgres

LATER = (
    "08000", "08001", "08003", "08004", "08006", "08007", "08P01",
    "25006", "25P03", "25P04",
    "26000",
    "40000", "40001", "40002", "40003", "40P01",
    "42P05",
    "53000", "53200", "53300", "53400",
    "55000", "55006", "55P03",
    "57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05",
    "58000", "58P01", "58P02", "58P03",
    "72000",
)  # fmt: skip
"""Each class of errors that trying again may help against, as PostgreSQL's appendix A has them."""


DISKS = {"53100": DiskFull, "58030": DiskFailed}


def test_every_row_of_the_table_is_tried_here() -> None:
    later = {code for code, meaning in POSTGRESQL.items() if meaning is Meaning.LATER}
    assert {code for code in later if any(tried.startswith(code) for tried in LATER)} == later


BUGS = ("0A000", "22001", "22P02", "22003", "23502", "23514", "25P02", "42601", "42703", "42P01", "42501", "54000",
        "55P02", "P0001", "XX000", "XX001")  # fmt: skip


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    await opened.close()


async def raise_code(database: Database, code: str) -> None:
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'as it is told' USING ERRCODE = '{code}'; END $$"
    async with database.write() as tx:
        await tx.execute(sa.text(statement))


@pytest.mark.parametrize("code", LATER)
async def test_what_means_later_is_told_as_that(database: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="as it is told"):
        await raise_code(database, code)
    # What was rolled back leaves the connection, or the next one, as good as before.
    async with database.read() as tx:
        assert await tx.scalar(sa.text("SELECT 1")) == 1


@pytest.mark.parametrize("code", DISKS)
async def test_what_is_wrong_with_a_disk_is_told_apart(database: Database, code: str) -> None:
    with pytest.raises(DISKS[code], match="as it is told"):
        await raise_code(database, code)


@pytest.mark.parametrize("code", BUGS)
async def test_what_is_wrong_with_a_statement_stays_a_bug(database: Database, code: str) -> None:
    with pytest.raises(DBAPIError, match="as it is told"):
        await raise_code(database, code)


@pytest.mark.parametrize(("code", "failure"), [("23505", UniqueViolation), ("23503", MissingReference)])
async def test_what_rules_ask_of_constraints_is_told_apart(
    database: Database, code: str, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        await raise_code(database, code)


async def run(database: Database, *statements: str) -> None:
    async with database.write() as tx:
        for statement in statements:
            await tx.execute(sa.text(statement))


async def test_waiting_too_long_for_a_row_means_later(database: Database) -> None:
    async with locked_row(database) as name:
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            await run(database, "SET LOCAL lock_timeout = '50ms'", f"UPDATE {name} SET n = 2")


async def test_a_deadlock_means_later_to_one_and_nothing_to_the_other(database: Database) -> None:
    async with table(database, "deadlocked", rows=2) as name:
        met = asyncio.Barrier(2)

        async def update(first: int, second: int) -> None:
            async with database.write() as tx:
                await tx.execute(sa.text(f"UPDATE {name} SET n = n WHERE id = {first}"))
                await met.wait()
                await tx.execute(sa.text(f"UPDATE {name} SET n = n WHERE id = {second}"))

        done = await asyncio.gather(update(1, 2), update(2, 1), return_exceptions=True)
        assert [type(one) for one in done if one is not None] == [DatabaseUnavailable]


async def test_a_conflict_of_snapshots_means_later(database: Database) -> None:
    async with table(database, "conflicting", rows=1) as name:

        async def write_what_another_has_written() -> None:
            async with database.write() as tx:
                await tx.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                await tx.scalar(sa.text(f"SELECT n FROM {name}"))
                await run(database, f"UPDATE {name} SET n = 5")
                await tx.execute(sa.text(f"UPDATE {name} SET n = 6"))

        with pytest.raises(DatabaseUnavailable, match="could not serialize"):
            await write_what_another_has_written()


@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        ("statement_timeout", "SELECT pg_sleep(5)"),
        ("idle_in_transaction_session_timeout", None),
        ("transaction_timeout", None),
    ],
)
async def test_a_timeout_of_the_server_means_later(database: Database, setting: str, statement: str | None) -> None:
    async with database.read() as tx:
        # PostgreSQL has the last one from version 17 on.
        if not await tx.scalar(sa.text(f"SELECT count(*) FROM pg_settings WHERE name = '{setting}'")):
            return

    async def outstay() -> None:
        async with database.write() as tx:
            await tx.execute(sa.text(f"SET LOCAL {setting} = '50ms'"))
            if statement is None:
                await asyncio.sleep(0.3)
            await tx.execute(sa.text(statement or "SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await outstay()


@pytest.mark.parametrize(
    ("end", "told"), [("pg_terminate_backend", "."), ("pg_cancel_backend", "canceling statement due to user request")]
)
async def test_what_an_operator_ends_means_later(database: Database, end: str, told: str) -> None:
    async def wait_for_the_operator() -> None:
        async with database.write() as tx:
            pid = await tx.scalar(sa.text("SELECT pg_backend_pid()"))
            ending = asyncio.create_task(end_soon(pid))
            try:
                await tx.scalar(sa.text("SELECT pg_sleep(5)"))
            finally:
                await ending

    async def end_soon(pid: int) -> None:
        await asyncio.sleep(0.1)
        await run(database, f"SELECT {end}({pid})")

    with pytest.raises(DatabaseUnavailable, match=told):
        await wait_for_the_operator()


async def test_whatever_stands_against_a_new_connection_means_later(postgres: Postgres) -> None:
    """A password that was changed, a database that is restored, too many clients: none is a fault of a request."""
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.run("DO $$ BEGIN CREATE ROLE limited LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    for change, told in (
        ("ALTER ROLE limited CONNECTION LIMIT 0", "too many connections"),
        ("ALTER ROLE limited CONNECTION LIMIT 10; ALTER ROLE limited NOLOGIN", "not permitted to log in"),
        (f"ALTER ROLE limited LOGIN; REVOKE CONNECT ON DATABASE {name} FROM public", "permission denied"),
        (f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false", "not currently accepting connections"),
        (f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true;", None),
    ):
        for part in change.split(";"):
            if part:
                postgres.run(part)
        if told is not None:
            await refuse_to_connect(url.replace("postgres@", "limited@"), told)
    await refuse_to_connect(f"{url}_gone", "does not exist")
    await refuse_to_connect(url.replace("postgres@", "nobody_of_that_name@"), "does not exist")


async def refuse_to_connect(url: str, told: str) -> None:
    database = Database(url)
    for open_one in (database.read, database.write):
        with pytest.raises(DatabaseUnavailable, match=told):
            async with open_one() as tx:
                await tx.scalar(sa.text("SELECT 1"))
    await database.close()


@contextlib.asynccontextmanager
async def table(database: Database, name: str, *, rows: int) -> AsyncIterator[str]:
    async with database.write() as tx:
        await tx.execute(sa.text(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)"))
        await tx.execute(sa.text(f"INSERT INTO {name} SELECT g, 1 FROM generate_series(1, {rows}) g"))
    yield name
    async with database.write() as tx:
        await tx.execute(sa.text(f"DROP TABLE {name}"))


@contextlib.asynccontextmanager
async def locked_row(database: Database) -> AsyncIterator[str]:
    async with table(database, "locked", rows=1) as name, database.write() as tx:
        await tx.execute(sa.text(f"UPDATE {name} SET n = 3"))
        yield name
        await tx.commit()
