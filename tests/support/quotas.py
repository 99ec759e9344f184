"""Consumers that have quotas, and an edge that asks the ledger for them as it must be asked."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from keywright.domain.limits import Quota
from keywright.domain.models import IdKind, new_id
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.origin.consumers import store as consumers
from keywright.origin.db.tables import consumers as consumer_table
from keywright.origin.db.tables import plans
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.quotas import lending
from keywright.protocol.leases import Answer, Ask, Loan, Question
from support.record import Record, now

ROOT = Grantee("", Permissions(Access.WRITE), is_root=True)
_numbers = itertools.count(1)


async def make_consumer(record: Record, quotas: Sequence[Quota] | None, *, plan_number: int | None = None) -> int:
    """Its number."""
    async with record.database.write() as tx:
        made = await consumers.insert(
            tx,
            id=new_id(IdKind.CONSUMER, secrets.token_bytes),
            bucket=record.bucket,
            name=f"consumer-{next(_numbers)}",
            description=None,
            tags={},
            metadata={},
            now=now(),
        )
        number = made.number
        values = {"quotas": quotas, "plan_number": plan_number}
        await tx.execute(sa.update(consumer_table).where(consumer_table.c.number == number).values(**values))
    return number


async def set_quotas(database: Database, consumer: int | str, quotas: Sequence[Quota] | None) -> None:
    """Of the consumer with that number, or all of that name."""
    async with database.write() as tx:
        one = consumer_table.c.number == consumer if isinstance(consumer, int) else consumer_table.c.name == consumer
        await tx.execute(sa.update(consumer_table).where(one).values(quotas=quotas))


async def make_plan(record: Record, quotas: Sequence[Quota]) -> int:
    """Its number."""
    async with record.database.write() as tx:
        name = f"plan-{next(_numbers)}"
        values = {"id": name, "bucket_number": record.bucket.number, "name": name}
        return await tx.insert(plans, **values, quotas=quotas, created_at=now(), updated_at=now())


@dataclass
class AskingEdge:
    """What an edge knows of the ledger. It takes every answer, unless it is told to lose one."""

    database: Database
    deployment_id: str
    grantee: Grantee = ROOT
    instance: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    start: int = 1
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    place: str = ""
    cursor: str = ""
    is_whole: bool = False

    async def ask(self, *asks: Ask, loses_answer: bool = False) -> list[Loan]:
        question = self.question(*asks)
        answer = await self.put(question)
        if not loses_answer:
            self.place = answer.place
        return list(answer.loans)

    def question(self, *asks: Ask) -> Question:
        number = next(self.numbers)
        return Question(
            self.deployment_id, self.instance, self.start, number, self.place, self.cursor, self.is_whole, asks
        )

    async def put(self, question: Question) -> Answer:
        async with self.database.write() as tx:
            return await lending.answer(tx, self.grantee, question, secrets.token_bytes)

    def restart(self) -> None:
        self.start, self.numbers = self.start + 1, itertools.count(1)


async def new_edge(record: Record, *, grantee: Grantee = ROOT, database: Database | None = None) -> AskingEdge:
    async with record.database.read() as tx:
        found = await find_deployment(tx)
    assert found is not None
    return AskingEdge(database or record.database, found.id, grantee)
