"""Powers in the record: written whole or not at all, after the bucket names them, and by no process of before them."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.models import Consumer, DisabledBy, IdKind, Key, new_id
from keywright.domain.permissions import Access
from keywright.origin.accounts import store as accounts
from keywright.origin.buckets import store as buckets
from keywright.origin.consumers import store as consumers
from keywright.origin.db import migrations
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.keys import store as keys
from keywright.origin.keys.store import NewKey
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, KeyPut
from support.record import Record, head_of, log_of, now, snapshot_of


async def new_consumer(tx: Transaction, record: Record, **powers: Any) -> Consumer:
    id = new_id(IdKind.CONSUMER, secrets.token_bytes)
    made: dict[str, Any] = {"description": None, "tags": {}, "metadata": {}, "now": now(), **powers}
    return await consumers.insert(tx, id=id, bucket=record.bucket, name=id.lower(), **made)


async def new_key(tx: Transaction, consumer: Consumer, **powers: Any) -> Key:
    id = new_id(IdKind.KEY, secrets.token_bytes)
    new = NewKey(id, secrets.token_bytes(32), "hint", None, None, None, **powers)
    return (await keys.insert_all(tx, consumer, [new], now=now()))[0]


async def changes_after(record: Record, revision: int) -> list[Change]:
    return [change for at, change in await log_of(record.database) if at > revision]


POWERS = {
    "enabled": ({"enabled": False, "disabled_by": DisabledBy.PROVIDER}, '{"enabled":false}'),
    "scopes": ({"scopes": ("orders:write", "orders:read")}, '{"scopes":["orders:read","orders:write"]}'),
    "no-scopes": ({"scopes": ()}, '{"scopes":[]}'),
    "allowedIps": ({"allowed_ips": ("192.0.2.0/24",)}, '{"allowedIps":["192.0.2.0/24"]}'),
    "metadata": ({"metadata": {"ä": [1, {}]}}, '{"metadata":{"ä":[1,{}]}}'),
}


@pytest.mark.parametrize(("said", "written"), POWERS.values(), ids=POWERS)
async def test_what_is_said_of_a_key_is_read_back_and_sent_as_it_is_said(
    record: Record, said: dict[str, Any], written: str
) -> None:
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record)
        made = await new_key(tx, consumer, **said, tags={"team": "blue"})
        plain = await new_key(tx, consumer)
    async with record.database.read() as tx:
        (found_plain, found), _ = await keys.list_of(tx, consumer, tags={}, limit=9, offset=0)
        assert await keys.list_of(tx, consumer, tags={"team": "blue"}, limit=9, offset=0) == ([found], 1)
        assert await keys.list_of(tx, consumer, tags={"team": "red"}, limit=9, offset=0) == ([], 0)
    # A row keeps milliseconds.
    shown = [replace(each, created_at=found.created_at, updated_at=found.updated_at) for each in (made, plain)]
    times = {"created_at": found.created_at, "updated_at": found.updated_at}
    assert [found, replace(found_plain, **times)] == shown
    sent = {change.key_id: change.powers for change in await snapshot_of(record.database) if isinstance(change, KeyPut)}
    assert sent[made.id] == written
    assert sent[plain.id] is None
    assert keys.put(made).powers == written


async def test_the_bucket_names_a_power_before_the_first_key_or_consumer_has_it_and_from_then_on(
    record: Record,
) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        consumer = await new_consumer(tx, record, scopes=())
        key = await new_key(tx, consumer, allowed_ips=("192.0.2.1/32",))
        key = await keys.update(tx, key, replace(key, allowed_ips=None, enabled=False))
        await keys.update(tx, key, replace(key, enabled=True))
        await new_key(tx, consumer, allowed_ips=("192.0.2.1/32",))

    found = await changes_after(record, before)
    kinds = [(type(each).__name__, getattr(each, "features", None)) for each in found]
    assert kinds == [
        ("BucketPut", ("scopes",)),
        ("ConsumerPut", None),
        ("BucketPut", ("allowedIps", "scopes")),
        ("KeyPut", None),
        ("BucketPut", ("allowedIps", "enabled", "scopes")),
        ("KeyPut", None),
        ("KeyPut", None),
        ("KeyPut", None),
    ]
    (bucket,) = (
        each
        for each in await snapshot_of(record.database)
        if isinstance(each, BucketPut) and each.number == record.bucket.number
    )
    assert bucket.features == ("allowedIps", "enabled", "scopes")


async def test_a_consumer_that_loses_its_last_power_says_so_and_no_other_change_does(record: Record) -> None:
    before = await head_of(record.database)
    async with record.database.write() as tx:
        one = await new_consumer(tx, record, scopes=("a",), allowed_ips=("192.0.2.0/24",))
        one = await consumers.update(tx, one, replace(one, scopes=None))
        one = await consumers.update(tx, one, replace(one, allowed_ips=None))
        one = await consumers.update(tx, one, replace(one, metadata={"a": 1}))
        await consumers.update(tx, one, replace(one, enabled=False))

    found = [each for each in await changes_after(record, before) if isinstance(each, ConsumerPut)]
    assert [(each.powers is not None, each.has_lost_powers) for each in found] == [
        (True, False), (True, False), (False, True), (False, False), (True, False),
    ]  # fmt: skip


async def test_a_power_that_comes_while_a_grant_ends_does_not_bring_the_grant_back(record: Record) -> None:
    async with record.database.write() as tx:
        other = await accounts.insert_account(tx, id="acct_other", name="other", now=now())
        bucket = await buckets.put_grant(tx, record.bucket, other, Access.READ, expires_at=None, now=now())
        consumer = await new_consumer(tx, record)
        key = await new_key(tx, consumer)

    async def switch_off() -> None:
        async with record.another_database().write() as tx:
            await keys.update(tx, key, replace(key, enabled=False))

    async with record.database.write() as tx:
        held = await buckets.find(tx, bucket.name, is_for_update=True)
        assert held is not None
        await buckets.delete_grant(tx, held, other)
        switching = asyncio.create_task(switch_off())
        if record.database.is_sqlite:
            # It has one writer: the other can't even begin, and nobody can see it wait.
            await asyncio.sleep(0.05)
            assert not switching.done()
        else:
            async with record.another_database().read() as watching:
                waits = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                while not await watching.scalar(waits):
                    await asyncio.sleep(0.01)
    await switching

    (put,) = (
        each for each in await snapshot_of(record.database) if isinstance(each, BucketPut) and each.name == bucket.name
    )
    assert (put.grants, put.features) == ({}, ("enabled",))
    logged = [each for _, each in await log_of(record.database) if isinstance(each, BucketPut)]
    assert logged[-1] == put


OF_BEFORE = {
    "who bears a management key": "SELECT keys.number, keys.expires_at FROM keys WHERE keys.digest = :digest",
    "a snapshot": "SELECT keys.digest, CAST(keys.expires_at AS BIGINT) FROM keys",
    "a new key": "INSERT INTO keys (id, expires_at) VALUES ('key_1', NULL)",
    "a change's number": "UPDATE deployment SET revision = deployment.revision + 1 RETURNING deployment.revision",
    "where the log is": "SELECT deployment.id, deployment.revision FROM deployment",
}
"""What 0.1 (38f0c79) sends, in the words that it names the columns by."""


@pytest.mark.parametrize("statement", OF_BEFORE.values(), ids=OF_BEFORE)
async def test_a_process_of_before_powers_can_ask_nothing_that_it_would_judge_without_them(
    record: Record, statement: str
) -> None:
    text = sa.text(statement)
    with pytest.raises(sa.exc.DBAPIError, match=r"no such column|has no column|does not exist|UndefinedColumn"):
        async with record.database.engine.begin() as connection:
            await connection.execute(text, {"digest": b""} if ":digest" in statement else {})


async def test_keys_of_before_powers_are_as_good_as_they_were_and_keep_their_end(database_url: str) -> None:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations._upgrade, "0010")
        for statement in (
            "INSERT INTO deployment (single, id, pepper_check, revision, stamp, stamped_at, created_at) "
            "VALUES (1, 'dply_1', 'check', 7, '0123456789abcdef', 1, 0)",
            "INSERT INTO buckets (number, id, name, tags, is_retrievable, key_prefix, created_at, updated_at) "
            "VALUES (1, 'b', 'bucket', '{}', FALSE, 'kwak', 0, 0)",
            "INSERT INTO consumers (number, id, bucket_number, name, metadata, created_at, updated_at) "
            "VALUES (2, 'c', 1, 'consumer', '{}', 0, 0)",
        ):
            await connection.execute(sa.text(statement))
        for id, end in (("k1", None), ("k2", 1234)):
            insert = (
                "INSERT INTO keys (id, bucket_number, consumer_number, digest, hint, expires_at, created_at, "
                "updated_at) VALUES (:id, 1, 2, :digest, 'hint', :end, 0, 0)"
            )
            values = {"id": id, "digest": id.encode() * 16, "end": end}
            await connection.execute(sa.text(insert).bindparams(sa.bindparam("end", type_=sa.BigInteger)), values)
    await migrations.upgrade(database)

    found = await snapshot_of(database)
    await database.close()
    assert found == [
        BucketPut(1, "b", "bucket", None),
        ConsumerPut(2, "c", 1, "consumer", "{}"),
        KeyPut(b"k1" * 16, 1, 2, "k1", None),
        KeyPut(b"k2" * 16, 1, 2, "k2", 1234),
    ]
