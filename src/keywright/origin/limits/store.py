"""Rows of the ledger of global rate limits: one for each edge, which every process of the origin reads and writes.

All is done under the lock of one row (SQLite: as its one writer), so that two processes never hand out the same part.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.origin.db.snapshot_stream import list_bucket_puts
from keywright.origin.db.tables import consumers, edge_shares, edges, share_ledger
from keywright.origin.db.transaction import Transaction
from keywright.origin.limits.members import MemberKey
from keywright.protocol.changes import BucketPut

_ASKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Head:
    """`epoch` is another one when rows were lost; `is_quiet`: nobody knows yet what may still be held."""

    epoch: str
    is_quiet: bool


async def lock(tx: Transaction) -> Head:
    """The head, which nobody else has until this transaction ends; a new, quiet one where it was lost."""
    row = await tx.first(sa.select(share_ledger.c.epoch, share_ledger.c.is_quiet).with_for_update())
    if row is None:
        epoch = secrets.token_hex(8)
        insert = (postgresql if tx.is_postgresql else sqlite).insert(share_ledger)
        # Another process may be at it: it is the one that is first.
        await tx.execute(insert.values(single=1, epoch=epoch, is_quiet=True).on_conflict_do_nothing())
        row = await tx.first(sa.select(share_ledger.c.epoch, share_ledger.c.is_quiet).with_for_update())
    if row is None:
        raise RuntimeError("the head of the ledger of shares can't be made")
    return Head(row.epoch, bool(row.is_quiet))


async def end_quiet(tx: Transaction) -> None:
    await tx.execute(sa.update(share_ledger).values(is_quiet=False))


async def list_beats(tx: Transaction) -> dict[MemberKey, int]:
    rows = await tx.all(sa.select(edge_shares.c.account_id, edge_shares.c.instance, edge_shares.c.beat))
    return {(row.account_id, row.instance): row.beat for row in rows}


async def list_bodies(tx: Transaction, keys: Collection[MemberKey]) -> dict[MemberKey, bytes]:
    if not keys:
        return {}
    place = sa.tuple_(edge_shares.c.account_id, edge_shares.c.instance)
    rows = await tx.all(sa.select(edge_shares).where(place.in_(sorted(keys))))
    return {(row.account_id, row.instance): row.body for row in rows}


async def put_all(tx: Transaction, bodies: Mapping[MemberKey, tuple[int, bytes]]) -> None:
    """Keep these beats and bodies."""
    rows = [
        {"account_id": account_id, "instance": instance, "beat": beat, "body": body}
        for (account_id, instance), (beat, body) in sorted(bodies.items())
    ]
    if not rows:
        return
    insert: Any = (postgresql if tx.is_postgresql else sqlite).insert(edge_shares)
    told = {name: insert.excluded[name] for name in ("beat", "body")}
    await tx.execute(insert.on_conflict_do_update(index_elements=["account_id", "instance"], set_=told), rows)


async def delete_all(tx: Transaction, keys: Collection[MemberKey]) -> None:
    for account_id, instance in sorted(keys):
        is_it = (edge_shares.c.account_id == account_id, edge_shares.c.instance == instance)
        await tx.execute(sa.delete(edge_shares).where(*is_it))


async def list_edges(tx: Transaction) -> set[MemberKey]:
    """The edges that were not retired, but for one that is beside an origin on SQLite."""
    return {(row.account_id, row.instance) for row in await tx.all(sa.select(edges.c.account_id, edges.c.instance))}


async def list_buckets(tx: Transaction) -> Sequence[BucketPut]:
    return await list_bucket_puts(tx)


async def find_buckets_of(tx: Transaction, numbers: Collection[int]) -> dict[int, int]:
    """In which buckets these consumers are; those that there are not are left out."""
    found: dict[int, int] = {}
    wanted = sorted(numbers)
    for start in range(0, len(wanted), _ASKED_AT_ONCE):
        part = wanted[start : start + _ASKED_AT_ONCE]
        rows = await tx.all(
            sa.select(consumers.c.number, consumers.c.bucket_number).where(consumers.c.number.in_(part))
        )
        found |= {row.number: row.bucket_number for row in rows}
    return found
