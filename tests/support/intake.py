"""An intake over a record, with a table of the tests' own for what counts, written in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from keywright.domain.problems import Problem
from keywright.edge.origin_calls import NotTaken
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.tables import usage_losses
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.edges.scopes import EVERYTHING, EdgeScope
from keywright.origin.usage.intake.rules import Intake
from keywright.origin.usage.store import Source
from keywright.protocol.usage import UsageRow
from keywright.protocol.usage_delivery import Delivery, UsageAnswer
from support.clock import FakeClock

COUNTED = sa.Table(
    "counted_by_tests",
    sa.MetaData(),
    sa.Column("name", sa.Text),
    sa.Column("bucket_number", sa.BigInteger),
    sa.Column("hour", sa.BigInteger),
    sa.Column("key_id", sa.Text),
    sa.Column("total", sa.BigInteger),
    sa.Column("last_ms", sa.BigInteger),
)


async def append(tx: Transaction, rows: Sequence[UsageRow], source: Source) -> None:
    values = [
        {"name": source.name, **{name: getattr(row, name) for name in COUNTED.columns.keys()[1:]}} for row in rows
    ]
    await tx.execute(sa.insert(COUNTED), values)


@dataclass
class Origin:
    """One process of an origin, as a channel for an edge beside it. `scope` is what the edge's token shows."""

    database: Database
    clock: FakeClock
    intake: Intake
    scope: EdgeScope = EVERYTHING

    @classmethod
    async def of(cls, database: Database, clock: FakeClock) -> Origin:
        async with database.write() as tx:
            await tx.execute(sa.schema.CreateTable(COUNTED, if_not_exists=True))
        return cls(database, clock, Intake(database, append, clock.millis, clock.elapsed, hours_days=14))

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        try:
            return await self.intake.take(delivery, self.scope)
        except (Problem, DatabaseUnavailable) as error:
            raise NotTaken(str(error)) from error

    async def close(self) -> None: ...

    async def total(self) -> int:
        async with self.database.read() as tx:
            return int(await tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(COUNTED.c.total), 0))))

    async def rows(self) -> list[sa.Row[tuple[object, ...]]]:
        async with self.database.read() as tx:
            return await tx.all(sa.select(COUNTED).order_by(COUNTED.c.hour, COUNTED.c.key_id))

    async def losses(self) -> list[sa.Row[tuple[object, ...]]]:
        async with self.database.read() as tx:
            return await tx.all(sa.select(usage_losses).order_by(usage_losses.c.number))
