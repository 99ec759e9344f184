"""The one order of all changes: the order of commits, nothing skipped, nothing twice, and the snapshot agrees."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from dataclasses import replace
from typing import Any

import pytest

from keywright.domain.models import Consumer, IdKind, Key, SelfServe, new_id
from keywright.origin.buckets import store as buckets
from keywright.origin.consumers import store as consumers
from keywright.origin.db import commit_log, snapshot_stream, tables
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import UniqueViolation
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.deployment.store import find_deployment
from keywright.origin.keys import store as keys
from keywright.origin.keys.store import NewKey
from keywright.protocol.changes import BucketDelete, Change, ConsumerDelete, ConsumerPut, Cursor, KeyPut, encode
from support.record import Record, count, cursor_of, head_of, log_of, now, replay, snapshot_of


async def new_consumer(tx: Transaction, record: Record, name: str | None = None) -> Consumer:
    id = new_id(IdKind.CONSUMER, secrets.token_bytes)
    return await consumers.insert(
        tx, id=id, bucket=record.bucket, name=name or id.lower(), description=None, tags={}, metadata={}, now=now()
    )


async def new_keys(tx: Transaction, consumer: Consumer, number: int) -> list[Key]:
    new = [
        NewKey(new_id(IdKind.KEY, secrets.token_bytes), secrets.token_bytes(32), "hint", None, None, None)
        for _ in range(number)
    ]
    return await keys.insert_all(tx, consumer, new, now=now())


class Given(Exception):
    """Ends a transaction on purpose."""


async def write_and_fail(record: Record) -> None:
    async with record.database.write() as tx:
        await new_keys(tx, await new_consumer(tx, record), 3)
        await tx.number_changes()
        assert tx.revision is not None
        raise Given


async def write_two(record: Record, *names: str) -> None:
    async with record.database.write() as tx:
        for name in names:
            await new_consumer(tx, record, name)


async def test_a_transaction_that_fails_leaves_no_change_and_no_revision(record: Record) -> None:
    before, log = await head_of(record.database), await log_of(record.database)

    with pytest.raises(Given):
        await write_and_fail(record)

    assert await head_of(record.database) == before
    assert await log_of(record.database) == log
    assert await snapshot_of(record.database) == replay(change for _, change in log)


async def test_a_transaction_that_the_database_refuses_leaves_no_change(record: Record) -> None:
    async with record.database.write() as tx:
        await new_consumer(tx, record, "taken")
    before = await head_of(record.database)

    with pytest.raises(UniqueViolation):
        await write_two(record, "free", "taken")

    assert await head_of(record.database) == before
    async with record.database.read() as tx:
        assert await consumers.find(tx, record.bucket, "free", tags={}) is None


async def test_what_changes_nothing_for_the_edges_takes_no_revision(record: Record) -> None:
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        (key,) = await new_keys(tx, consumer, 1)
    before = await head_of(record.database)

    async with record.database.write() as tx:
        await consumers.update(tx, consumer, replace(consumer, description="d", tags={"a": "b"}))
        await keys.update(tx, key, replace(key, description="d", tags={"a": "b"}))
        own = record.bucket
        await buckets.update(
            tx,
            own,
            description="d",
            tags={"a": "b"},
            max_staleness_seconds=own.max_staleness_seconds,
            when_stale=own.when_stale,
            self_serve=SelfServe(enabled=False),
            default_scopes=own.default_scopes,
            record_addresses=True,
            key_prefix="acme_live",
            former_key_prefixes=[own.key_prefix],
            now=now(),
        )

    assert tx.revision is None
    assert await head_of(record.database) == before


async def test_the_changes_of_one_transaction_follow_each_other_in_the_order_in_which_they_were_made(
    record: Record,
) -> None:
    before = await head_of(record.database)

    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        made = await new_keys(tx, consumer, 3)
        await keys.delete(tx, made[1])

    log = (await log_of(record.database))[before:]
    kinds = ["consumer", "key", "key", "key", "-key"]
    assert [revision for revision, _ in log] == list(range(before + 1, before + 6))
    assert [encode(change).split('"')[1] for _, change in log] == kinds
    assert tx.revision == before + 5 == await head_of(record.database)


async def test_each_transaction_draws_one_stamp_for_its_changes_later_than_all_before_whatever_the_clock_says(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await cursor_of(record.database)
    for seconds in (0, -3600, 3600, -3600):
        monkeypatch.setattr("time.time_ns", lambda seconds=seconds: int((now().timestamp() + seconds) * 1e9))
        await write_two(record, secrets.token_hex(4), secrets.token_hex(4))

    async with record.database.read() as tx:
        rows = await commit_log.lead_on(tx, before, limit=100)
        # Without it nothing leads on, and nothing is said of what does not follow.
        for other in (
            before._replace(stamp="0" * 16),
            rows[-1].cursor._replace(stamp="0" * 16),
            before._replace(revision=99),
        ):
            with pytest.raises(NotKept):
                await commit_log.lead_on(tx, other, limit=100)
    places = [(row.cursor.stamp, row.cursor.stamped_at) for row in rows]
    assert len(rows) == 8
    assert places[0::2] == places[1::2]
    assert len({stamp for stamp, _ in places}) == 4
    times = [before.stamped_at, *(at for _, at in places[0::2])]
    assert times == sorted(set(times))
    assert rows[-1].cursor == await cursor_of(record.database)


async def test_a_loss_is_noted_once_and_later_than_what_was_lost(record: Record) -> None:
    head = await cursor_of(record.database)
    lost = Cursor(head.revision + 5, "f" * 16, head.stamped_at + 3_600_000)
    for cursor, is_lost in ((head, False), (lost, True)):
        async with record.database.write() as tx:
            assert await commit_log.note_loss(tx, cursor) is is_lost
    found = await cursor_of(record.database)
    assert (found.revision, found.stamped_at) == (head.revision + 1, lost.stamped_at + 1)
    assert not found.may_become(lost)


async def test_new_metadata_of_a_consumer_with_many_keys_is_one_change(record: Record) -> None:
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        await new_keys(tx, consumer, 50)
    before = await head_of(record.database)

    async with record.database.write() as tx:
        changed = await consumers.update(tx, consumer, replace(consumer, metadata={"plan": "gold"}))

    log = await log_of(record.database)
    assert [change for _, change in log[before:]] == [consumers.put(changed)]
    assert await snapshot_of(record.database) == replay(change for _, change in log)


async def test_deleting_a_consumer_with_many_keys_is_one_change(record: Record) -> None:
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        await new_keys(tx, consumer, 500)
    before = await head_of(record.database)

    async with record.database.write() as tx:
        await consumers.delete(tx, consumer)

    log = await log_of(record.database)
    assert [change for _, change in log[before:]] == [ConsumerDelete(consumer.number)]
    snapshot = await snapshot_of(record.database)
    assert snapshot == replay(change for _, change in log)
    assert not any(isinstance(change, KeyPut) and change.consumer_number == consumer.number for change in snapshot)


async def test_deleting_a_bucket_with_many_keys_is_one_change(record: Record) -> None:
    async with record.database.write() as tx:
        for _ in range(5):
            await new_keys(tx, await new_consumer(tx, record), 100)
    before = await head_of(record.database)

    async with record.database.write() as tx:
        await buckets.delete(tx, record.bucket)

    log = await log_of(record.database)
    assert [change for _, change in log[before:]] == [BucketDelete(record.bucket.number)]
    assert await snapshot_of(record.database) == replay(change for _, change in log)
    async with record.database.read() as tx:
        assert await count(tx, tables.keys, tables.keys.c.bucket_number == record.bucket.number) == 0


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
async def test_snapshot_pages_are_in_the_order_promised_and_hold_each_record_once(
    record: Record, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with record.database.write() as tx:
        for _ in range(5):
            consumer = await new_consumer(tx, record)
            await new_keys(tx, consumer, 4)
        await consumers.delete(tx, consumer)
    monkeypatch.setattr(snapshot_stream, "SNAPSHOT_PAGE", page)

    snapshot = await snapshot_of(record.database)

    # Buckets, consumers by number, keys by bucket number and digest: the order in which a replica is filled fastest.
    assert snapshot == replay(change for _, change in await log_of(record.database))
    found = [change for change in snapshot if isinstance(change, KeyPut)]
    assert found == sorted(found, key=lambda put: (put.bucket_number, put.digest))


async def test_a_snapshot_sees_one_moment_whatever_is_committed_while_it_is_read(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        await new_keys(tx, consumer, 20)
    expected = replay(change for _, change in await log_of(record.database))
    head = await head_of(record.database)
    monkeypatch.setattr(snapshot_stream, "SNAPSHOT_PAGE", 3)

    found: list[Change] = []
    async with record.database.read(is_snapshot=True) as reading:
        deployment = await find_deployment(reading)
        async for part in stream_snapshot(reading):
            found += part
            async with record.database.write() as writing:
                await new_keys(writing, await new_consumer(writing, record), 2)

    assert deployment is not None
    assert deployment.head.revision == head
    assert found == expected


class Writer:
    """Commits small transactions of every kind, as fast as it can."""

    def __init__(self, record: Record, database: Database, seed: int) -> None:
        self.record = record
        self.database = database
        self.random = random.Random(seed)
        self.living: list[tuple[Consumer, list[Key]]] = []
        self.committed: list[int] = []
        self.changes = 0

    async def run(self, transactions: int) -> None:
        for _ in range(transactions):
            with contextlib.suppress(Given):
                async with self.database.write() as tx:
                    after = await self._change(tx)
                    self.changes += len(tx._changes)
                    if self.random.random() < 0.1:
                        await tx.number_changes()
                        self.changes -= len(tx._changes)
                        raise Given
                if tx.revision is not None:
                    self.committed.append(tx.revision)
                self.living = after

    async def _change(self, tx: Transaction) -> list[tuple[Consumer, list[Key]]]:
        dice = self.random.random()
        living = list(self.living)
        if dice < 0.5 or not living:
            consumer = await new_consumer(tx, self.record)
            living.append((consumer, await new_keys(tx, consumer, self.random.randrange(1, 4))))
            return living
        consumer, held = living.pop(self.random.randrange(len(living)))
        if dice < 0.65:
            await consumers.delete(tx, consumer)
            return living
        if dice < 0.8 and held:
            await keys.delete(tx, held[0])
            return [*living, (consumer, held[1:])]
        changed = replace(consumer, metadata={"n": self.random.random()}, **self._powers())
        consumer = await consumers.update(tx, consumer, changed)
        if held:
            changed_key = replace(held[0], expires_at=now(), metadata={"n": dice}, **self._powers())
            held = [await keys.update(tx, held[0], changed_key), *held[1:]]
        return [*living, (consumer, held)]

    def _powers(self) -> dict[str, Any]:
        choose = self.random.choice
        return {
            "enabled": choose([True, True, False]),
            "scopes": choose([None, None, (), ("orders:read", "orders:write")]),
            "allowed_ips": choose([None, None, ("192.0.2.0/24", "2001:db8::/32")]),
        }


async def tail(database: Database, start: Cursor, done: asyncio.Event, limit: int) -> list[tuple[int, Change]]:
    """What a reader sees who asks for what is after the last that it saw, all the while."""
    seen: list[tuple[int, Change]] = []
    cursor = start
    while True:
        is_last = done.is_set()
        async with database.read() as tx:
            rows = await commit_log.lead_on(tx, cursor, limit=limit)
        seen += [(row.cursor.revision, row.change) for row in rows]
        cursor = rows[-1].cursor if rows else cursor
        if is_last and not rows:
            return seen
        await asyncio.sleep(0)


async def test_readers_see_every_revision_once_and_in_order_while_many_write(record: Record) -> None:
    start, before = await cursor_of(record.database), await log_of(record.database)
    # SQLite has one writer at a time, and waits for its disk at each commit.
    engines, writers_each, transactions = (2, 2, 15) if record.database.is_sqlite else (4, 4, 40)
    databases = [record.another_database() for _ in range(engines)]
    writers = [
        Writer(record, database, seed)
        for seed, database in enumerate(d for d in databases for _ in range(writers_each))
    ]
    done = asyncio.Event()
    readers = [asyncio.create_task(tail(record.another_database(), start, done, limit)) for limit in (1000, 3)]

    await asyncio.gather(*(writer.run(transactions) for writer in writers))
    done.set()
    logs_seen = await asyncio.gather(*readers)

    written = (await log_of(record.database))[len(before) :]
    for seen in logs_seen:
        skipped = {revision for revision, _ in written} - {revision for revision, _ in seen}
        assert not skipped, "committed after a reader had passed them by"
        assert seen == written
    head = await head_of(record.database)
    assert [revision for revision, _ in written] == list(range(start.revision + 1, head + 1))
    assert head == start.revision + sum(writer.changes for writer in writers)
    # One writer's transactions are numbered in the order in which it was told that they had committed.
    assert all(writer.committed == sorted(writer.committed) for writer in writers)
    assert replay(change for _, change in [*before, *logs_seen[0]]) == await snapshot_of(record.database)
    assert any(isinstance(change, ConsumerPut) for _, change in logs_seen[0])
