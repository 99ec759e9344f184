"""Rows of accounts and projects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.domain.models import Account, Environment, Project
from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import accounts, buckets, environments, projects
from keywright.origin.db.transaction import Transaction

_BY_NAME = prepared(sa.select(accounts).where(accounts.c.name == sa.bindparam("name")))


async def insert_account(tx: Transaction, *, id: str, name: str, now: datetime) -> Account:
    """Raises UniqueViolation when the name is taken."""
    number = await tx.insert(accounts, id=id, name=name, created_at=now, updated_at=now)
    return Account(number, id, name, now, now)


async def find_account(tx: Transaction, name: str) -> Account | None:
    row = await tx.first(_BY_NAME, name=name)
    return Account(**row._mapping) if row else None


async def find_account_by_id(tx: Transaction, id: str) -> Account | None:
    row = await tx.first(sa.select(accounts).where(accounts.c.id == id))
    return Account(**row._mapping) if row else None


async def find_first(tx: Transaction) -> Account | None:
    """The account that the deployment was started with."""
    row = await tx.first(sa.select(accounts).order_by(accounts.c.number).limit(1))
    return Account(**row._mapping) if row else None


async def list_accounts(
    tx: Transaction, *, limit: int, offset: int, ids: Collection[str] | None = None
) -> tuple[list[Account], int]:
    """Newest first, and how many there are in all; with `ids` only those."""
    wanted = sa.true() if ids is None else accounts.c.id.in_(ids)
    rows = await tx.all(
        sa.select(accounts).where(wanted).order_by(accounts.c.number.desc()).limit(limit).offset(offset)
    )
    total = await tx.scalar(sa.select(sa.func.count()).select_from(accounts).where(wanted))
    return [Account(**row._mapping) for row in rows], total


async def insert_project(
    tx: Transaction, *, id: str, account: Account, name: str, bucket_numbers: Mapping[Environment, int], now: datetime
) -> None:
    """Raises UniqueViolation when the account has a project of that name."""
    number = await tx.insert(projects, id=id, account_number=account.number, name=name, created_at=now, updated_at=now)
    rows = [
        {"project_number": number, "environment": environment.value, "bucket_number": bucket_number}
        for environment, bucket_number in bucket_numbers.items()
    ]
    await tx.execute(sa.insert(environments), rows)


async def find_project(tx: Transaction, account: Account, name: str) -> Project | None:
    row = await tx.first(
        sa.select(projects).where(projects.c.account_number == account.number, projects.c.name == name)
    )
    return (await _with_environments(tx, [row]))[0] if row else None


async def list_projects(tx: Transaction, account: Account, *, limit: int, offset: int) -> tuple[list[Project], int]:
    own = projects.c.account_number == account.number
    rows = await tx.all(sa.select(projects).where(own).order_by(projects.c.number.desc()).limit(limit).offset(offset))
    total = await tx.scalar(sa.select(sa.func.count()).select_from(projects).where(own))
    return await _with_environments(tx, rows), total


async def delete_project(tx: Transaction, project: Project) -> None:
    await tx.execute(sa.delete(projects).where(projects.c.number == project.number))


async def _with_environments(tx: Transaction, rows: Sequence[Any]) -> list[Project]:
    bucket_names: dict[int, dict[Environment, str]] = {row.number: {} for row in rows}
    joined = (
        sa.select(environments.c.project_number, environments.c.environment, buckets.c.name)
        .join(buckets, buckets.c.number == environments.c.bucket_number)
        .where(environments.c.project_number.in_(bucket_names))
    )
    for project_number, environment, bucket_name in await tx.all(joined):
        bucket_names[project_number][Environment(environment)] = bucket_name
    return [
        Project(
            number=row.number,
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            updated_at=row.updated_at,
            # In the order in which people think of them, whatever order the rows came in.
            environments={e: bucket_names[row.number][e] for e in Environment if e in bucket_names[row.number]},
        )
        for row in rows
    ]
