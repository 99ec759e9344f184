"""Rows as an end user sees them: the consumers that a user manages, and the open invites of an e-mail address."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa

from keywright.domain.models import Bucket, Consumer, Manager
from keywright.origin.auth.actors import Actor
from keywright.origin.consumers.store import complete
from keywright.origin.db.tables import consumers, keys, managers
from keywright.origin.db.transaction import Transaction


async def find(
    tx: Transaction,
    bucket: Bucket,
    actor: Actor,
    *,
    name: str | None = None,
    id: str | None = None,
    is_for_update: bool = False,
) -> Consumer | None:
    """The consumer of that name, or that id, if the user manages it.

    With `is_for_update` neither the consumer nor its being managed changes until the transaction ends.
    """
    wanted = consumers.c.name == name if name is not None else consumers.c.id == id
    statement = sa.select(consumers).where(consumers.c.bucket_number == bucket.number, wanted)
    is_managed = sa.select(managers.c.number).where(_is(actor))
    if is_for_update:
        statement = statement.with_for_update()
        is_managed = is_managed.with_for_update(read=True)
    row = await tx.first(statement)
    # Asked for once the row is held: who was a manager a moment before may be none any more.
    if row is None or await tx.first(is_managed.where(managers.c.consumer_number == row.number)) is None:
        return None
    return (await complete(tx, [row]))[0]


async def list_of(tx: Transaction, bucket: Bucket, actor: Actor, *, limit: int) -> list[Consumer]:
    """Newest first."""
    newest = sa.select(consumers).where(*_managed(bucket, actor)).order_by(consumers.c.number.desc())
    return await complete(tx, await tx.all(newest.limit(limit)))


async def count(tx: Transaction, bucket: Bucket, actor: Actor) -> int:
    statement = sa.select(sa.func.count()).select_from(consumers).where(*_managed(bucket, actor))
    number: int = await tx.scalar(statement)
    return number


async def count_good_keys(tx: Transaction, consumer: Consumer, now: datetime) -> int:
    """How many keys of the consumer are good at this moment."""
    is_good = sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > now)
    own = keys.c.consumer_number == consumer.number
    number: int = await tx.scalar(sa.select(sa.func.count()).select_from(keys).where(own, is_good))
    return number


async def list_invites(
    tx: Transaction, bucket: Bucket, *, email: str, issuers: Collection[str], is_for_update: bool = False
) -> list[Manager]:
    """What this address is invited to in the bucket, and what it managed by another issuer's word than one of these."""
    is_open = sa.or_(managers.c.sub.is_(None), managers.c.issuer.is_(None), managers.c.issuer.not_in(issuers))
    within = sa.select(consumers.c.number).where(consumers.c.bucket_number == bucket.number)
    statement = sa.select(managers).where(managers.c.email == email, is_open, managers.c.consumer_number.in_(within))
    if is_for_update:
        statement = statement.order_by(managers.c.number).with_for_update()
    return [Manager(**row._mapping) for row in await tx.all(statement)]


async def bind(tx: Transaction, invites: Sequence[Manager], actor: Actor) -> None:
    """Makes the user who is invited the manager."""
    numbers = [invite.number for invite in invites]
    who = {"sub": actor.sub, "issuer": actor.issuer}
    await tx.execute(sa.update(managers).where(managers.c.number.in_(numbers)).values(**who))


def _is(actor: Actor) -> sa.ColumnElement[bool]:
    # Never IS NULL: a row that no issuer vouches for is nobody's.
    return sa.and_(managers.c.sub == actor.sub, managers.c.issuer == (actor.issuer or ""))


def _managed(bucket: Bucket, actor: Actor) -> tuple[sa.ColumnElement[bool], ...]:
    numbers = sa.select(managers.c.consumer_number).where(_is(actor))
    return consumers.c.bucket_number == bucket.number, consumers.c.number.in_(numbers)
