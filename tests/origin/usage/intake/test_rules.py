"""A batch counts once, whoever sends it and however often; what does not count is said."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest
import sqlalchemy as sa

from keywright.origin.db.tables import usage_edges, usage_epochs
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges.scopes import EdgeScope
from keywright.origin.usage.intake import rules
from keywright.origin.usage.intake import store as rows_of
from keywright.origin.usage.intake.rules import DAY_MILLIS, Intake
from keywright.protocol import usage
from keywright.protocol.usage import HOUR_MILLIS, Loss, LossReason, UsageBatch, UsageRow
from keywright.protocol.usage_delivery import Delivery, Outcome, UsageAnswer
from support.clock import FakeClock
from support.intake import Origin, append
from support.record import Record

EPOCH = "0123456789abcdef" * 2
INSTANCE = "0123456789abcdef"


def row(total: int = 1, *, hours_ago: int = 0, bucket: int = 1, key: str = "key_1") -> UsageRow:
    hour = 1_800_000_000_000 // HOUR_MILLIS - hours_ago
    return UsageRow(hour, bucket, 1, key, "VALID", None, None, None, total, 0, 1)


class World:
    def __init__(self, origin: Origin, record: Record, deployment_id: str) -> None:
        self.origin = origin
        self.record = record
        self.clock = origin.clock
        self.first = UsageBatch(deployment_id, EPOCH, 1, 1, INSTANCE, "fra-1", "eu", 0, 0, (row(5),))

    async def take(self, batch: UsageBatch | None, origin: Origin | None = None, **told: object) -> UsageAnswer:
        content = b"" if batch is None else usage.encode(batch)
        delivery = Delivery(INSTANCE, "fra-1", "eu", secrets.token_hex(16), None, content)
        origin = origin or self.origin
        return await origin.intake.take(replace(delivery, **told), origin.scope)  # type: ignore[arg-type]

    def number(self, number: int, total: int = 5) -> UsageBatch:
        return replace(self.first, first_number=number, number=number, rows=(row(total),))

    async def reasons(self) -> list[tuple[object, object]]:
        return [(loss.reason, loss.lost) for loss in await self.origin.losses()]


@pytest.fixture
async def world(record: Record) -> World:
    origin = await Origin.of(record.database, FakeClock(wall=1_800_000_600.0))
    async with record.database.read() as tx:
        found = await find_deployment(tx)
    assert found is not None
    return World(origin, record, found.id)


async def test_batches_count_in_the_order_of_their_numbers(world: World) -> None:
    for number in (1, 2, 3):
        assert await world.take(world.number(number)) == UsageAnswer(Outcome.TAKEN, number + 1)
    assert await world.origin.total() == 15
    assert [(one.name, one.bucket_number) for one in await world.origin.rows()] == [("fra-1", 1)] * 3


async def test_batch_that_comes_again_counts_once(world: World) -> None:
    for number in (1, 2, 1, 2, 2, 3, 1):
        assert (await world.take(world.number(number))).outcome is Outcome.TAKEN
    # Whoever sends it: a copy of a directory has another instance.
    await world.take(world.number(3), instance="fedcba9876543210")
    assert await world.origin.total() == 15
    assert await world.origin.losses() == []


async def test_gap_is_asked_for_and_nothing_counts_behind_it(world: World) -> None:
    assert await world.take(world.number(3)) == UsageAnswer(Outcome.GAP, 1)
    await world.take(world.number(1))
    assert await world.take(world.number(3)) == UsageAnswer(Outcome.GAP, 2)
    assert await world.origin.total() == 5


async def test_other_content_under_a_number_is_a_loss_by_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.take(world.number(1, 5))
    for _ in range(2):
        assert await world.take(world.number(1, 7)) == UsageAnswer(Outcome.CONFLICT, 2)
    assert await world.origin.total() == 5
    [loss] = await world.origin.losses()
    assert (loss.epoch, loss.last_number, loss.lost, loss.reason, loss.name) == (
        EPOCH, 1, 7, LossReason.CONFLICT, "fra-1",
    )  # fmt: skip
    assert "7 validations at the edge fra-1" in caplog.text


async def test_what_says_that_a_taken_batch_is_lost_is_wrong(world: World) -> None:
    await world.take(world.number(1))
    lost = Loss(EPOCH, 1, 1, 5, 0, 0, LossReason.SPOOL_FULL)
    assert await world.take(replace(world.first, rows=(), losses=(lost,))) == UsageAnswer(Outcome.TAKEN, 2)
    assert await world.origin.losses() == []


async def test_lost_batches_make_room_for_those_behind_them(world: World) -> None:
    await world.take(world.number(1))
    losses = tuple(Loss(EPOCH, number, number, 5, 0, 0, LossReason.SPOOL_FULL) for number in (1, 2, 3))
    stand_in = replace(world.first, first_number=1, number=3, rows=(), losses=losses)
    assert await world.take(stand_in) == UsageAnswer(Outcome.TAKEN, 4)
    assert await world.take(world.number(4)) == UsageAnswer(Outcome.TAKEN, 5)
    assert await world.origin.total() == 10
    # The first was taken before, so it is not lost.
    assert await world.reasons() == [(LossReason.SPOOL_FULL, 5)] * 2
    # One of them comes all the same: it was said to be lost, and it stays so.
    assert (await world.take(world.number(2))).outcome is Outcome.CONFLICT


async def test_hours_that_are_kept_no_more_do_not_count_and_that_is_said(world: World) -> None:
    batch = replace(world.first, rows=(row(3, hours_ago=14 * 24 + 1, key="key_2"), row(4, hours_ago=14 * 24)))
    answer = await world.take(batch)
    assert (answer.outcome, answer.lost, answer.detail) == (Outcome.TAKEN, 3, "3 too-old")
    assert await world.origin.total() == 4
    assert await world.reasons() == [(LossReason.TOO_OLD, 3)]


async def test_clock_that_is_ahead_counts_now_and_by_more_than_a_day_not_at_all(world: World) -> None:
    rows = tuple(row(3, hours_ago=hours, key=key) for hours, key in ((0, "key_1"), (-1, "key_1"), (-24, "key_2")))
    answer = await world.take(replace(world.first, rows=(*rows, row(9, hours_ago=-25))))
    assert (answer.outcome, answer.lost) == (Outcome.TAKEN, 9)
    hour, at = divmod(world.clock.millis(), HOUR_MILLIS)
    assert [(one.hour, one.key_id, one.total, one.last_ms) for one in await world.origin.rows()] == [
        (hour, "key_1", 6, at),
        (hour, "key_2", 3, at),
    ]
    assert await world.reasons() == [(LossReason.FROM_AFTER_NOW, 9)]


async def test_epoch_that_was_forgotten_can_not_count_again(world: World) -> None:
    await world.take(replace(world.first, rows=(row(5), row(2, hours_ago=-20, key="key_2"))))
    assert await world.origin.total() == 7
    world.clock.advance((14 + rules.LATER_DAYS) * DAY_MILLIS / 1000 + 1)
    assert (await world.take(None)).outcome is Outcome.TAKEN
    async with world.record.database.read() as tx:
        assert await tx.all(sa.select(usage_epochs)) == []
    answer = await world.take(replace(world.first, rows=(row(5), row(2, hours_ago=-20, key="key_2"))))
    assert (answer.outcome, answer.lost) == (Outcome.TAKEN, 7)
    assert await world.origin.total() == 7


async def test_epoch_is_remembered_for_as_long_as_what_it_counted_could_count(world: World) -> None:
    await world.take(world.number(1))
    world.clock.advance(14 * DAY_MILLIS / 1000)
    await world.take(world.number(1))
    assert await world.origin.total() == 5


async def test_rows_of_buckets_that_the_token_does_not_show_do_not_count(world: World) -> None:
    async with world.record.database.read() as tx:
        [put, *_] = [one for one in await rows_of.list_buckets(tx) if one.account_id is not None]
    assert put.account_id is not None
    world.origin.scope = EdgeScope(put.account_id, frozenset({put.name}))
    answer = await world.take(replace(world.first, rows=(row(3, bucket=put.number), row(4, bucket=put.number + 1000))))
    assert (answer.outcome, answer.lost, answer.detail) == (Outcome.TAKEN, 4, "4 not-allowed")
    assert [(one.bucket_number, one.total) for one in await world.origin.rows()] == [(put.number, 3)]
    assert await world.reasons() == [(LossReason.NOT_ALLOWED, 4)]


async def test_batch_of_another_deployment_is_refused(world: World) -> None:
    answer = await world.take(replace(world.first, deployment_id="dply_other"))
    assert (answer.outcome, answer.detail) == (Outcome.REFUSED, "it is usage of deployment dply_other")
    answer = await world.take(None, content=b"junk")
    assert answer.outcome is Outcome.REFUSED
    assert await world.origin.total() == 0


async def test_edge_is_known_up_to_what_it_says_and_not_beyond_now(world: World) -> None:
    now = world.clock.millis()
    for told, known in ((None, None), (now - 5, now - 5), (None, now - 5), (now + 90_000, now), (now - 9, now - 9)):
        await world.take(None, known_until=told)
        async with world.record.database.read() as tx:
            edge = await tx.first(sa.select(usage_edges))
        assert edge is not None
        assert (edge.instance, edge.name, edge.known_until) == (INSTANCE, "fra-1", known)


async def test_process_that_was_killed_is_among_the_losses(world: World) -> None:
    lost = Loss("f" * 32, None, None, None, 1, 2, LossReason.KILLED)
    await world.take(replace(world.first, losses=(lost,)))
    assert await world.reasons() == [(LossReason.KILLED, None)]
    assert await world.origin.total() == 5


async def test_failure_within_the_transaction_leaves_nothing_taken(world: World) -> None:
    async def fail(*given: object) -> None:
        await append(*given)  # type: ignore[arg-type]
        raise RuntimeError("in the middle")

    database, clock = world.record.database, world.clock
    failing = replace(world.origin, intake=Intake(database, fail, clock.millis, clock.elapsed, hours_days=14))
    with pytest.raises(RuntimeError):
        await world.take(world.first, failing)
    assert await world.origin.total() == 0
    assert await world.take(world.first) == UsageAnswer(Outcome.TAKEN, 2)
    assert await world.origin.total() == 5


async def test_batch_that_reaches_several_origins_at_once_counts_once(world: World) -> None:
    others = [await Origin.of(world.record.another_database(), world.clock) for _ in range(3)]
    for number in range(1, 6):
        answers = await asyncio.gather(*(world.take(world.number(number), one) for one in (world.origin, *others)))
        assert {one.outcome for one in answers} == {Outcome.TAKEN}
        assert {one.next_number for one in answers} == {number + 1}
    assert await world.origin.total() == 25
    assert await world.origin.losses() == []


async def test_batches_beyond_the_digests_kept_are_answered_as_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_of, "DIGESTS_KEPT", 2)
    for number in range(1, 5):
        await world.take(world.number(number))
    assert (await world.take(world.number(3, 6))).outcome is Outcome.CONFLICT
    assert (await world.take(world.number(1, 6))).outcome is Outcome.TAKEN
    assert await world.origin.total() == 20
