"""Row of the deployment itself. There is one; its head, the newest change, is db/transaction.py's to move on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from keywright.origin.db.commit_log import cursor_of
from keywright.origin.db.tables import deployment
from keywright.origin.db.transaction import Transaction
from keywright.protocol.changes import NOWHERE, Cursor


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who this deployment is, what tells whether a process has its pepper, and the newest change."""

    id: str
    pepper_check: str
    head: Cursor


async def find_deployment(tx: Transaction) -> Deployment | None:
    row = await tx.first(sa.select(deployment))
    return Deployment(row.id, row.pepper_check, cursor_of(row)) if row else None


async def find_deployment_id(tx: Transaction) -> str | None:
    """Its id alone, which a record of every schema has."""
    id: str | None = await tx.scalar(sa.select(deployment.c.id))
    return id


async def insert_deployment(tx: Transaction, *, id: str, pepper_check: str, now: datetime) -> None:
    """Raises UniqueViolation when another process was first."""
    values = {"single": 1, "id": id, "pepper_check": pepper_check, **NOWHERE._asdict(), "created_at": now}
    await tx.execute(sa.insert(deployment).values(**values))
