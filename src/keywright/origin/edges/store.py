"""Rows of edges: what each said last, kept by the origin that heard it for the origins that did not; and who waits.

They are no part of the record: in no change. A row stays until its edge is *retired*: it said goodbye, somebody
says that it is gone, or nothing was heard of it for so long that it is taken to be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from keywright.domain.models import from_millis, to_millis
from keywright.origin.db.database_clock import read_millis
from keywright.origin.db.tables import accounts, buckets, deployment, edges, grants, withdrawals
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.scopes import HeldScopes
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, Report


@dataclass(frozen=True, slots=True)
class Heard:
    """`account_id` is "" for an edge of the deployment itself; `age` is how many seconds ago it said so."""

    account_id: str
    report: Report
    age: float
    scopes: HeldScopes


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The revision that ended the sharing of a bucket with an account."""

    bucket_id: str
    owner_id: str
    account_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Head:
    """`awaited` is the newest revision for which somebody waits, or waited, to hear that edges have applied it."""

    deployment_id: str
    revision: int
    awaited: int


async def find_head(tx: Transaction) -> Head | None:
    row = await tx.first(sa.select(deployment.c.id, deployment.c.revision, deployment.c.awaited_revision))
    return Head(*row) if row else None


async def put_all(tx: Transaction, heard: Iterable[Heard]) -> None:
    """Keep what was heard, unless something newer of the same edge is kept already.

    A row of the future is of a clock that was set back since: it is not newer.
    """
    now = await read_millis(tx)
    # In one order, so that two origins that write the same rows wait for each other rather than for ever.
    rows = [_row(one, now) for one in sorted(heard, key=lambda one: (one.account_id, one.report.instance))]
    if not rows:
        return
    insert: Any = (postgresql if tx.is_postgresql else sqlite).insert(edges)
    told = {name: insert.excluded[name] for name in rows[0] if name not in {"account_id", "instance"}}
    is_older = (edges.c.seen_at <= insert.excluded.seen_at) | (edges.c.seen_at > now)
    await tx.execute(
        insert.on_conflict_do_update(index_elements=["account_id", "instance"], set_=told, where=is_older), rows
    )


async def list_all(tx: Transaction, *, account_ids: Sequence[str] | None = None) -> list[Heard]:
    """What is kept, of these accounts only."""
    now = await read_millis(tx)
    statement = sa.select(edges)
    if account_ids is not None:
        statement = statement.where(edges.c.account_id.in_(account_ids))
    return [_heard(row, now) for row in await tx.all(statement)]


async def has_powers(tx: Transaction) -> bool:
    """Whether any key or consumer has, or had, powers, which an edge must be able to judge by."""
    said = sa.type_coerce(buckets.c.features, sa.Text)
    return await tx.first(sa.select(buckets.c.number).where(said != "[]").limit(1)) is not None


async def find_scopes(tx: Transaction, account_id: str, instance: str) -> HeldScopes | None:
    """What an edge may know by what is kept of it; None if nothing is."""
    row = await tx.first(
        sa.select(edges.c.scopes).where(edges.c.account_id == account_id, edges.c.instance == instance)
    )
    return None if row is None else HeldScopes.decode(account_id, row.scopes)


async def list_shared_numbers(tx: Transaction, account_ids: Collection[str]) -> list[int]:
    """The buckets that these accounts share with others, or others with them."""
    owner, other = accounts.alias(), accounts.alias()
    joined = grants.join(buckets, buckets.c.number == grants.c.bucket_number)
    joined = joined.join(owner, owner.c.number == buckets.c.account_number)
    joined = joined.join(other, other.c.number == grants.c.account_number)
    is_theirs = sa.or_(owner.c.id.in_(account_ids), other.c.id.in_(account_ids))
    rows = await tx.all(sa.select(buckets.c.number).select_from(joined).where(is_theirs).distinct())
    return [row.number for row in rows]


async def list_withdrawals(
    tx: Transaction, bucket_ids: Collection[str], account_ids: Collection[str]
) -> list[Withdrawal]:
    """Those of these buckets, and those that part these accounts from others."""
    of_accounts = withdrawals.c.owner_id.in_(account_ids) | withdrawals.c.account_id.in_(account_ids)
    statement = sa.select(withdrawals).where(withdrawals.c.bucket_id.in_(bucket_ids) | of_accounts)
    return [Withdrawal(**row._mapping) for row in await tx.all(statement)]


async def has_room(tx: Transaction, account_id: str, *, beside: set[str], most: int, margin_seconds: float) -> bool:
    """Whether an account has fewer edges than that `beside` these instances. Those that answer no more don't count."""
    others = (edges.c.account_id == account_id, edges.c.instance.not_in(beside))
    answering = sa.not_(_has_refused(await read_millis(tx), margin_seconds))
    count: int = await tx.scalar(sa.select(sa.func.count()).select_from(edges).where(*others, answering))
    return count < most


async def retire(tx: Transaction, account_id: str, instance: str) -> Heard | None:
    """Take out an edge of an account, or of the deployment; what was kept of it, None if nothing was."""
    found = await _take_out(tx, edges.c.account_id == account_id, edges.c.instance == instance)
    return found[0] if found else None


async def retire_silent(tx: Transaction, *, seconds: float, margin_seconds: float) -> list[Heard]:
    """Take out the edges that were silent for so long, and leased ones whose lease has run out."""
    now = await read_millis(tx)
    is_over = sa.and_(edges.c.is_leased, _has_refused(now, margin_seconds))
    return await _take_out(tx, sa.or_(edges.c.seen_at < now - int(seconds * 1000), is_over))


def _has_refused(now: int, margin_seconds: float) -> sa.ColumnElement[bool]:
    promised = edges.c.refuses_after_millis
    return sa.and_(promised.is_not(None), edges.c.seen_at + promised < now - int(margin_seconds * 1000))


async def _take_out(tx: Transaction, *conditions: sa.ColumnElement[bool]) -> list[Heard]:
    now = await read_millis(tx)
    # In one statement: what was heard of an edge meanwhile keeps it in.
    return [_heard(row, now) for row in await tx.all(sa.delete(edges).where(*conditions).returning(edges))]


def _row(heard: Heard, now: int) -> dict[str, Any]:
    report = heard.report
    return {
        "account_id": heard.account_id,
        "instance": report.instance,
        "name": report.name,
        "region": report.region or None,
        "version": report.version,
        "state": report.state.value,
        "since": from_millis(report.since),
        "revision": report.revision,
        "lag_millis": report.lag,
        "seen_at": now - int(heard.age * 1000),
        "refuses_after_millis": report.refuses_after,
        "is_leased": report.is_leased,
        "scopes": heard.scopes.encode(),
        "clock_offset_millis": report.clock_offset,
        "feed_format": report.feed_format,
        "is_format_unknown": report.is_format_unknown,
    }


def _heard(row: Any, now: int) -> Heard:
    report = Report(
        deployment_id="",
        instance=row.instance,
        start="",
        number=0,
        name=row.name,
        region=row.region or "",
        version=row.version,
        state=EdgeState(row.state),
        since=to_millis(row.since),
        cursor=None if row.revision is None else Cursor(row.revision, "", 0),
        lag=row.lag_millis,
        refuses_after=row.refuses_after_millis,
        is_leased=bool(row.is_leased),
        clock_offset=row.clock_offset_millis,
        feed_format=row.feed_format,
        is_format_unknown=bool(row.is_format_unknown),
    )
    scopes = HeldScopes.decode(row.account_id, row.scopes)
    return Heard(row.account_id, report, max(0, now - row.seen_at) / 1000, scopes)
