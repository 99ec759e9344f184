"""/metrics of an origin: what edges hold, what is lost with some, and where nothing is lent; on both engines."""

from __future__ import annotations

import pytest

from keywright.domain.limits import Period, Quota
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.database_clock import read_millis
from keywright.origin.quotas import losses, metrics
from keywright.origin.quotas.metrics import LedgerSource
from keywright.protocol.leases import LEASE_MILLIS, Ask
from support.quotas import make_consumer, new_edge
from support.record import Record

FOREVER = Quota("pages", 10, Period.NONE)


def told(source: LedgerSource) -> dict[str, float]:
    return {one.name.removeprefix("keywright_quota_"): one.samples[0].value for one in source.gauges()}


async def test_what_is_lent_and_lost_is_told(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    source = LedgerSource(record.database)
    assert told(source) == {}
    await source.look()
    assert told(source) == {"units_lent": 0, "units_unaccounted": 0, "buckets_shut": 0}

    number = await make_consumer(record, [FOREVER])
    edge = await new_edge(record)
    (loan,) = await edge.ask(Ask(number, "pages", need=6))
    await edge.ask(Ask(number, "pages", loan.lease, spent=2))
    await source.look()
    assert told(source) == {"units_lent": 4, "units_unaccounted": 0, "buckets_shut": 0}

    async with record.database.write() as tx:
        now = await read_millis(tx)
        await losses.note_loss(tx, now, now)
    monkeypatch.setattr(metrics, "read_millis", lambda tx: _later(now + LEASE_MILLIS + 1000))
    await source.look()
    shut = len(await _buckets(record))
    assert told(source) == {"units_lent": 4, "units_unaccounted": 4, "buckets_shut": shut}


async def _buckets(record: Record) -> list[int]:
    async with record.database.read() as tx:
        return [number for number, one in (await bucket_rows.find_all(tx)).items() if one.account_id is not None]


async def _later(at: int) -> int:
    return at
