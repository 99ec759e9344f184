"""Owns the steps from one shape of the record to the next (Alembic), and the lock that lets one process take them."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from keywright.origin.db import sqlite
from keywright.origin.db.engine import translating
from keywright.origin.db.tables import SCHEMA_VERSION
from keywright.origin.db.transaction import Database

# An arbitrary number of ours, so that two machines that start at once don't migrate at once (PostgreSQL).
_LOCK = 0x6B657977


class NewerSchema(Exception):
    """The record was migrated by a newer Keywright; the argument is its version."""


async def get_version(database: Database) -> str | None:
    """The schema version of the record; None for an empty database."""
    with translating():
        async with database.engine.connect() as connection:
            return await connection.run_sync(_version)


async def upgrade(database: Database, *, issuer: str | None = None) -> bool:
    """Brings the record to this version's shape; whether there was anything to do. Raises NewerSchema.

    `issuer` is the identity provider of the end users, to whom those belong who were noted without one (0006).
    """
    version = await get_version(database)
    if version == SCHEMA_VERSION:
        return False
    if version is not None and version > SCHEMA_VERSION:
        raise NewerSchema(version)
    with translating():
        return await _upgrade_alone(database, issuer)


async def _upgrade_alone(database: Database, issuer: str | None) -> bool:
    async with database.engine.connect() as connection:
        if database.is_sqlite:
            await connection.execution_options(**{sqlite.WRITES: True})
        async with connection.begin():
            if not database.is_sqlite:
                await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            # Another machine may have done it while this one waited for the lock.
            if await connection.run_sync(_version) == SCHEMA_VERSION:
                return False
            await connection.run_sync(_upgrade, issuer=issuer)
    return True


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return version


def _upgrade(connection: sa.Connection, version: str = "head", *, issuer: str | None = None) -> None:
    # Loaded here: only a start that migrates pays for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["issuer"] = issuer
    command.upgrade(config, version)
