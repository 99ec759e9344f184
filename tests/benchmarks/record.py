"""Makes a data directory with any number of keys in its record, much faster than the Developer API can.

The rows are what the service would have written: real digests under the deployment's pepper, real sealed secrets. But
ids are consecutive instead of random, which saves half of the time and changes nothing that is measured; and the change
log is left out, as if those changes were long ago: a new replica takes a snapshot anyway.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester, Secret
from keywright.domain.models import Bucket, IdKind
from keywright.origin.buckets import store as buckets
from keywright.origin.db import tables
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.keys.vault import BucketVault
from keywright.runtime.settings import OriginSettings
from keywright.serve import first_start

ACCOUNT = "my-account"
BUCKET = "my-project-production"
PAGE = 20_000
# Every name, metadata value and so every answer has the same length, however many keys there are.
FIRST_CUSTOMER = 10_000_000
MOMENT = 1_767_225_600_000

_CONSUMER = ("number", "id", "bucket_number", "name", "metadata", "created_at", "updated_at")
_KEY = ("id", "bucket_number", "consumer_number", "digest", "hint", "sealed", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Record:
    """A data directory, its root key, and secrets of keys drawn at random from all of them."""

    data_dir: Path
    root_key: str
    keys: int
    sample: list[str]


def make(data_dir: Path, *, keys: int, sample: int = 0) -> Record:
    """A new deployment with one consumer for each key; of `sample` keys the secrets are told."""
    root_key = f"root-{secrets.token_hex(16)}"
    settings = replace(OriginSettings.load(data_dir=data_dir), bootstrap_key=Secret(root_key))
    texts = asyncio.run(_make(settings, keys, set(random.sample(range(keys), min(sample, keys)))))
    random.shuffle(texts)
    return Record(data_dir, root_key, keys, texts)


async def _make(settings: OriginSettings, count: int, wanted: set[int]) -> list[str]:
    await first_start.prepare(settings)
    dependencies = first_start.make_dependencies(settings)
    database = Database(settings.database_url)
    told: list[str] = []
    try:
        async with database.write() as tx:
            # The indexes are written at random places: they have to stay in memory until all is there.
            await tx.connection.exec_driver_sql("PRAGMA cache_size = -2000000")
            bucket = await buckets.find(tx, BUCKET)
            assert bucket is not None
            vault = dependencies.vault.bucket(bucket.id, *await buckets.get_data_key(tx, bucket.number))
            first = (await tx.scalar(sa.select(sa.func.max(tables.consumers.c.number))) or 0) + 1
            for start in range(0, count, PAGE):
                owners, keys = [], []
                for number in range(start, min(start + PAGE, count)):
                    secret = keyformat.generate(bucket.key_prefix, random.randbytes)
                    if number in wanted:
                        told.append(secret.reveal())
                    owner = _consumer_row(first + number, FIRST_CUSTOMER + number, bucket)
                    owners.append(owner)
                    keys.append(_key_row(secret, owner, dependencies.digester, vault))
                await _insert(tx, tables.consumers, _CONSUMER, owners)
                await _insert(tx, tables.keys, _KEY, keys)
    finally:
        await database.close()
    return told


async def _insert(tx: Transaction, table: sa.Table, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """By the driver alone: SQLAlchemy's share of a row is several times SQLite's."""
    places = ", ".join("?" * len(columns))
    await tx.connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})", rows)


def _consumer_row(row_number: int, customer: int, bucket: Bucket) -> tuple[Any, ...]:
    metadata = f'{{"plan":"gold","customerId":{customer}}}'
    id = f"{IdKind.CONSUMER}_{row_number:024d}"
    return (row_number, id, bucket.number, f"customer-{customer}", metadata, MOMENT, MOMENT)


def _key_row(secret: Secret, owner: tuple[Any, ...], digester: Digester, vault: BucketVault) -> tuple[Any, ...]:
    number, consumer_id, bucket_number, *_ = owner
    id = f"{IdKind.KEY}_{number:024d}"
    sealed = vault.seal(secret, consumer_id=consumer_id, key_id=id)
    digest, hint = digester.digest(secret.reveal()), keyformat.hint_of(secret)
    return (id, bucket_number, number, digest, hint, sealed, MOMENT, MOMENT)
