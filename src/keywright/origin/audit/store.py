"""Rows of the audit log, which people read. They outlive what they tell of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from keywright.origin.db.prepared import prepared
from keywright.origin.db.tables import audit_logs
from keywright.origin.db.transaction import Transaction

_INSERT = prepared(sa.insert(audit_logs))


async def insert_audit(
    tx: Transaction,
    *,
    account_id: str,
    timestamp: datetime,
    action: str,
    actor_sub: str,
    actor_email: str | None,
    success: bool,
    request_id: str,
    body: Mapping[str, Any],
) -> None:
    values = {
        "account_id": account_id,
        "timestamp": timestamp,
        "action": action,
        "actor_sub": actor_sub,
        "actor_email": actor_email,
        "success": success,
        "request_id": request_id,
        "body": body,
    }
    await tx.execute(_INSERT, values)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for in the audit log; None leaves a field out. `actor` is an e-mail address or a subject."""

    action: str | None = None
    actor: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    success: bool | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.action is not None:
            found.append(audit_logs.c.action == self.action)
        if self.actor is not None:
            # Addresses are kept in lower case; a subject is exactly as its provider writes it.
            by_email = audit_logs.c.actor_email == self.actor.lower()
            found.append(sa.or_(audit_logs.c.actor_sub == self.actor, by_email))
        if self.start is not None:
            found.append(audit_logs.c.timestamp >= self.start)
        if self.end is not None:
            found.append(audit_logs.c.timestamp <= self.end)
        if self.success is not None:
            found.append(audit_logs.c.success == self.success)
        return found


async def list_audit(
    tx: Transaction, account_id: str, wanted: AuditFilter, *, limit: int, offset: int
) -> tuple[list[Any], int]:
    """Rows of the account, newest first, and how many there are in all."""
    conditions = [audit_logs.c.account_id == account_id, *wanted.conditions()]
    newest = sa.select(audit_logs).where(*conditions).order_by(audit_logs.c.number.desc())
    total = await tx.scalar(sa.select(sa.func.count()).select_from(audit_logs).where(*conditions))
    return await tx.all(newest.limit(limit).offset(offset)), total
