"""The record alone: a migrated, bootstrapped database; and what a reader of its log must end up with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from keywright.domain.keyformat import Digester
from keywright.domain.models import Bucket
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.edge.replica.replica import Replica
from keywright.origin.buckets import store as buckets
from keywright.origin.db import commit_log, migrations
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.deployment import rules as deployment
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.scope_filter import ScopeFilter
from keywright.origin.keys.vault import KEY_BYTES, KeyRing, Vault
from keywright.origin.pipeline.unit_of_work import Dependencies, Limits
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    KeyDelete,
    KeyPut,
    PlanDelete,
    PlanPut,
)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Record:
    database: Database
    dependencies: Dependencies
    bucket: Bucket
    _extra: list[Database] = field(default_factory=list)

    def another_database(self) -> Database:
        """One more engine on the same record, as another process would have it."""
        self._extra.append(Database(self.database.engine.url.render_as_string(hide_password=False)))
        return self._extra[-1]

    async def close(self) -> None:
        for database in (*self._extra, self.database):
            await database.close()


def migrate(url: str) -> None:
    """Brings a database to the shape of this version; for callers without an event loop."""

    async def work() -> None:
        database = Database(url)
        await migrations.upgrade(database)
        await database.close()

    # In a thread of its own, an event loop takes no other's place.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work()).result()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Record]:
    database = Database(url)
    await migrations.upgrade(database)
    ring = KeyRing.of(secrets.token_bytes(KEY_BYTES))
    vault = Vault(lambda: ring, secrets.token_bytes)
    dependencies = Dependencies(vault, Digester(secrets.token_bytes(32)), secrets.token_bytes, now, Limits())
    made = await deployment.bootstrap(database, dependencies, account_name=None, root_key=None)
    assert made is not None
    async with database.read() as tx:
        bucket = await buckets.find(tx, "my-project-production")
    assert bucket is not None
    record = Record(database, dependencies, bucket)
    try:
        yield record
    finally:
        await record.close()


async def log_of(database: Database) -> list[tuple[int, Change]]:
    async with database.read() as tx:
        return [
            (row.cursor.revision, row.change) for row in await commit_log.list_changes(tx, after=0, limit=1_000_000)
        ]


async def cursor_of(database: Database) -> Cursor:
    async with database.read() as tx:
        found = await find_deployment(tx)
    assert found is not None
    return found.head


async def head_of(database: Database) -> int:
    return (await cursor_of(database)).revision


async def snapshot_of(database: Database) -> list[Change]:
    async with database.read(is_snapshot=True) as tx:
        return [change async for page in stream_snapshot(tx) for change in page]


def replay(changes: Iterable[Change]) -> list[Change]:
    """What an edge holds after these changes, in the order of a snapshot."""
    bucket_puts: dict[int, BucketPut] = {}
    plan_puts: dict[int, PlanPut] = {}
    consumer_puts: dict[int, ConsumerPut] = {}
    key_puts: dict[tuple[int, bytes], KeyPut] = {}
    for change in changes:
        match change:
            case BucketPut():
                bucket_puts[change.number] = change
            case BucketDelete():
                del bucket_puts[change.number]
            case ConsumerPut():
                # Said of the change, not of the consumer.
                consumer_puts[change.number] = replace(change, has_lost_powers=False)
            case PlanPut():
                plan_puts[change.number] = change
            case PlanDelete():
                del plan_puts[change.number]
            case ConsumerDelete():
                del consumer_puts[change.number]
            case KeyPut():
                key_puts[change.bucket_number, change.digest] = change
            case KeyDelete():
                del key_puts[change.bucket_number, change.digest]
    # What can't be reached any more went with its bucket or its consumer.
    living = {number: put for number, put in consumer_puts.items() if put.bucket_number in bucket_puts}
    return [
        *(put for _, put in sorted(bucket_puts.items())),
        *(put for _, put in sorted(plan_puts.items()) if put.bucket_number in bucket_puts),
        *(put for _, put in sorted(living.items())),
        *(put for _, put in sorted(key_puts.items()) if put.consumer_number in living),
    ]


def replica_of(data_dir: Path, digester: Digester) -> list[Change]:
    """Every record of the replica in a data directory, in the order of a snapshot; others may be using it."""
    replica = Replica.open(data_dir / "replica", digester.pepper_check())
    try:
        return replica.records()
    finally:
        replica.close()


def seen_by_account(record: Sequence[Change]) -> list[Change]:
    """What an edge is shown of a record whose token is good for every bucket of the account of its first one."""
    account_id = next(put.account_id for put in record if isinstance(put, BucketPut) and put.account_id is not None)
    scope = ScopeFilter(Grantee(account_id, Permissions(buckets={"*": Access.VALIDATE}, feed=True)))
    return [shown for put in record if (shown := scope.view(put)) is not None]


async def count(tx: Transaction, table: sa.Table, *conditions: Any) -> int:
    number: int = await tx.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions))
    return number
