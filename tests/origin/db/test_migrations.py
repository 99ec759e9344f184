"""The shape of the record: what migrations make is what the tables say, once, whoever comes first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from keywright.origin.db import commit_log, migrations, tables
from keywright.origin.db.migrations import NewerSchema
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.protocol.changes import Cursor, Hidden
from support.postgres import Postgres

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> Any:
    database = Database(database_url)
    yield database
    await database.close()


async def run(database: Database, statement: str) -> None:
    async with database.write() as tx:
        await tx.execute(sa.text(statement))


async def test_a_newer_schema_is_refused_and_left_as_it_is(database: Database) -> None:
    await migrations.upgrade(database)
    await run(database, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(NewerSchema, match="9999"):
        await migrations.upgrade(database)

    assert await migrations.get_version(database) == "9999"


async def test_an_empty_database_has_no_version(database: Database) -> None:
    assert await migrations.get_version(database) is None


async def test_a_failed_migration_leaves_nothing_behind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = migrations._upgrade

    def fail(connection: sa.Connection, **options: Any) -> None:
        upgrade(connection, **options)
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrations, "_upgrade", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        await migrations.upgrade(database)
    assert await migrations.get_version(database) is None

    monkeypatch.undo()
    assert await migrations.upgrade(database)


async def test_a_fresh_upgrade_is_what_the_tables_say(database: Database) -> None:
    await migrations.upgrade(database)

    def differences(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, tables.metadata))

    def constraints(connection: sa.Connection) -> set[tuple[str, str]]:
        inspector = sa.inspect(connection)
        # SQLite tells no name of a reference that came with its column.
        return {
            (table, constraint["name"] or f"fk_{table}_{'_'.join(constraint['constrained_columns'])}")
            for table in tables.metadata.tables
            for constraint in [
                *inspector.get_check_constraints(table),
                *inspector.get_unique_constraints(table),
                *inspector.get_foreign_keys(table),
            ]
        }

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        # Autogenerate does not look at checks.
        found = await connection.run_sync(constraints)
    assert found == {
        (table.name, connection.dialect.identifier_preparer.format_constraint(constraint))
        for table in tables.metadata.tables.values()
        for constraint in table.constraints
        if not isinstance(constraint, sa.PrimaryKeyConstraint)
    }


async def test_changes_of_before_stamps_get_one_that_no_other_copy_of_the_record_has(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations._upgrade, "0001")
        for revision in (1, 2):
            await connection.execute(sa.text(f"INSERT INTO changes VALUES ({revision}, '[\"-\"]')"))
        columns = "(single, id, pepper_check, revision, created_at)"
        await connection.execute(sa.text(f"INSERT INTO deployment {columns} VALUES (1, 'dply_1', 'check', 2, 0)"))
    await migrations.upgrade(database)
    async with database.write() as tx:
        assert await tx.all(sa.select(tables.deployment.c.id)) == [("dply_1",)]
        found = await find_deployment(tx)
        assert found is not None
        assert str(Cursor.parse(str(found.head))) == str(found.head)
        assert await commit_log.list_changes(tx, after=1, limit=9) == [(found.head, Hidden())]
        tx.record(Hidden())
    async with database.read() as tx:
        (row,) = await commit_log.lead_on(tx, found.head, limit=9)
    assert row.cursor.stamp != found.head.stamp
    assert row.cursor.stamped_at > found.head.stamped_at


@pytest.mark.parametrize("issuer", [None, "https://id.example.com"], ids=str)
async def test_managers_of_before_issuers_belong_to_the_configured_one_or_to_nobody(
    database: Database, issuer: str | None
) -> None:
    subs = ["auth0|ada", "email-link|bob@example.com", "Email-Link|x", None]
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations._upgrade, "0005")
        for statement in (
            "INSERT INTO buckets (number, id, name, tags, is_retrievable, key_prefix, created_at, updated_at) "
            "VALUES (1, 'b', 'bucket', '{}', FALSE, 'kwak', 0, 0)",
            "INSERT INTO consumers (number, id, bucket_number, name, metadata, created_at, updated_at) "
            "VALUES (1, 'c', 1, 'consumer', '{}', 0, 0)",
        ):
            await connection.execute(sa.text(statement))
        for number, sub in enumerate(subs):
            insert = "INSERT INTO managers (id, consumer_number, email, sub, created_at) VALUES (:id, 1, :id, :sub, 0)"
            await connection.execute(sa.text(insert), {"id": f"{number}", "sub": sub})
        for number, way in enumerate(("oidc", "email-link")):
            insert = (
                "INSERT INTO sessions (digest, portal, connection, sub, created_at, seen_at, ends_at) "
                "VALUES (:digest, 'portal', :way, 'x', 0, 0, 0)"
            )
            await connection.execute(sa.text(insert), {"digest": bytes([number]) * 32, "way": way})
    await migrations.upgrade(database, issuer=issuer)
    async with database.read() as tx:
        found = await tx.all(sa.select(tables.managers.c.issuer).order_by(tables.managers.c.id))
        sessions = await tx.all(sa.select(tables.sessions.c.issuer).order_by(tables.sessions.c.number))
    assert [row.issuer for row in found] == [issuer, "email-link", issuer, None]
    assert [row.issuer for row in sessions] == [None, "email-link"]


async def test_numbers_of_deleted_rows_are_never_given_again(database: Database) -> None:
    await migrations.upgrade(database)
    numbers = []
    for name in ("first", "second"):
        async with database.write() as tx:
            number = await tx.insert(tables.accounts, id=name, name=name, created_at=EPOCH, updated_at=EPOCH)
            await tx.execute(sa.delete(tables.accounts))
        numbers.append(number)
    assert numbers[1] > numbers[0]


async def test_a_second_upgrade_does_nothing(database: Database) -> None:
    assert await migrations.upgrade(database)
    assert not await migrations.upgrade(database)
    assert await migrations.get_version(database) == tables.SCHEMA_VERSION


def test_the_schema_version_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.SCHEMA_VERSION


async def test_of_many_that_migrate_at_once_one_does_it_and_all_succeed(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(migrations.upgrade(database) for database in databases))
        versions = [await migrations.get_version(database) for database in databases]
        async with databases[0].read() as tx:
            rows = await tx.all(sa.text("SELECT version_num FROM alembic_version"))
    finally:
        for database in databases:
            await database.close()
    assert versions == [tables.SCHEMA_VERSION] * 4
    assert len(rows) == 1


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "postgresql+asyncpg://127.0.0.1:port/db",
        "postgresql+asyncpg://127.0.0.1/db?no_such_parameter=1",
    ],
)
def test_what_is_no_database_of_ours_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not a URL|names no file|has a parameter that is not known)"):
        Database(url)


async def test_a_provider_s_url_with_sslmode_is_understood(postgres: Postgres) -> None:
    database = Database(postgres.new_database() + "?sslmode=prefer")
    assert await migrations.upgrade(database)
    await database.close()
