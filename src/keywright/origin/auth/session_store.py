"""Rows of the portals' sessions and of the forms that were sent in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from keywright.origin.db.engine import UniqueViolation
from keywright.origin.db.tables import sent_forms, sessions
from keywright.origin.db.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in to a portal: by a management key (`key_number`) or as a user (`sub` of `issuer`, `email`).

    `bucket_number` is set where the portal is that of one bucket. `connection` says how they came in.
    """

    number: int
    portal: str
    key_number: int | None
    bucket_number: int | None
    sub: str | None
    issuer: str | None
    email: str | None
    connection: str
    created_at: datetime
    seen_at: datetime
    ends_at: datetime


_COLUMNS = [column for column in sessions.c if column.name != "digest"]


async def insert(
    tx: Transaction,
    *,
    digest: bytes,
    portal: str,
    key_number: int | None,
    bucket_number: int | None,
    sub: str | None,
    issuer: str | None,
    email: str | None,
    connection: str,
    now: datetime,
    ends_at: datetime,
) -> Session:
    values = {
        "portal": portal,
        "key_number": key_number,
        "bucket_number": bucket_number,
        "sub": sub,
        "issuer": issuer,
        "email": email,
        "connection": connection,
        "created_at": now,
        "seen_at": now,
        "ends_at": ends_at,
    }
    number = await tx.insert(sessions, digest=digest, **values)
    return Session(number=number, **values)  # type: ignore[arg-type]


async def find(tx: Transaction, digest: bytes) -> Session | None:
    row = await tx.first(sa.select(*_COLUMNS).where(sessions.c.digest == digest))
    return Session(**row._mapping) if row else None


async def set_seen(tx: Transaction, session: Session, now: datetime) -> None:
    await tx.execute(sa.update(sessions).where(sessions.c.number == session.number).values(seen_at=now))


async def delete(tx: Transaction, session: Session) -> None:
    await tx.execute(sa.delete(sessions).where(sessions.c.number == session.number))


async def delete_of_key(tx: Transaction, key_number: int) -> None:
    """Those that stand on this management key."""
    await tx.execute(sa.delete(sessions).where(sessions.c.key_number == key_number))


async def delete_ended(tx: Transaction, *, now: datetime, unseen_since: datetime) -> None:
    """Those whose time is over, or that nobody has used since then."""
    over = sa.or_(sessions.c.ends_at <= now, sessions.c.seen_at <= unseen_since)
    await tx.execute(sa.delete(sessions).where(over))


async def insert_form(tx: Transaction, session: Session, form: str, location: str) -> bool:
    """Notes that a form is being sent; False if it was sent before."""
    try:
        async with tx.savepoint():
            values = {"session_number": session.number, "form": form, "location": location}
            await tx.execute(sa.insert(sent_forms).values(**values))
    except UniqueViolation:
        return False
    return True


async def find_form(tx: Transaction, session: Session, form: str) -> str | None:
    """Where a form that was sent led to."""
    own = sa.and_(sent_forms.c.session_number == session.number, sent_forms.c.form == form)
    location: str | None = await tx.scalar(sa.select(sent_forms.c.location).where(own))
    return location


async def set_form_location(tx: Transaction, session: Session, form: str, location: str) -> None:
    own = sa.and_(sent_forms.c.session_number == session.number, sent_forms.c.form == form)
    await tx.execute(sa.update(sent_forms).where(own).values(location=location))
