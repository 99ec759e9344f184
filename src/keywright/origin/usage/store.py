"""Rows of usage as batches brought them, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from keywright.origin.db.tables import usage_rows
from keywright.origin.db.transaction import Transaction
from keywright.protocol.usage import UsageRow

_COLUMNS = (
    "hour", "bucket_number", "consumer_number", "key_id", "verdict", "plan_number", "denied_scope", "route", "total",
    "first_ms", "last_ms", "address",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """The edge that counted, which need not be the one that sent the batch."""

    instance: str
    name: str
    region: str


async def append(tx: Transaction, rows: Sequence[UsageRow], source: Source) -> None:
    """Add the rows of a batch, within the transaction that says that it was taken."""
    edge = {"instance": source.instance, "name": source.name, "region": source.region}
    values = [{**edge, **dict(zip(_COLUMNS, row, strict=True))} for row in rows]
    if values:
        await tx.execute(sa.insert(usage_rows), values)
