"""Owns taking in usage: a batch counts once, whoever sends it and however often, or is said to be lost.

Number n+1 of an epoch is taken in the transaction that adds its counts, under the lock of the epoch's row. What comes
again is answered by what there is; a gap is asked for. Rows of hours that are kept no more do not count, and an epoch
is remembered for longer than that: so what was forgotten can't count again either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from keywright.domain.problems import TooManyRequests
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges.scopes import EdgeScope
from keywright.origin.usage.addresses import store as addresses
from keywright.origin.usage.intake import store as rows_of
from keywright.origin.usage.intake.store import Sender, Taken
from keywright.origin.usage.store import Source
from keywright.protocol import usage
from keywright.protocol.reports import UNFILLED
from keywright.protocol.usage import HOUR_MILLIS, Loss, LossReason, UsageBatch, UsageError, UsageRow
from keywright.protocol.usage_delivery import Delivery, Outcome, UsageAnswer

log = logging.getLogger("keywright.origin")

DAY_MILLIS = 24 * HOUR_MILLIS
LATER_DAYS = 2
"""For so much longer than hours are kept epochs are remembered: a clock may be ahead of ours, and a day is none."""
LOSSES_DAYS = 400
AT_ONCE = 2
"""So many batches a process takes in at once, so that edges that were long away leave room for others."""
MOST_WAITING = 200
SCOPE_SECONDS = 5.0
"""How old it may be what an edge's token shows."""
PRUNE_SECONDS = 3600.0
LONGEST_PAUSE_SECONDS = 5.0


Append = Callable[[Transaction, Sequence[UsageRow], Source], Awaitable[None]]
"""Adds the rows of a batch to what is counted, within the transaction. Called once for each batch."""


class Intake:
    """One for each process. From the event loop's own thread."""

    def __init__(
        self,
        database: Database,
        append: Append,
        millis: Callable[[], int],
        elapsed: Callable[[], float],
        *,
        hours_days: int,
    ) -> None:
        """`millis` and `elapsed` are those of Clock; hours are kept for so many days."""
        self._database = database
        self._append = append
        self._millis = millis
        self._elapsed = elapsed
        self._hours_days = hours_days
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._seen: dict[EdgeScope, frozenset[int]] = {}
        self._seen_at = float("-inf")
        self._pruned_at = float("-inf")

    async def take(self, delivery: Delivery, scope: EdgeScope) -> UsageAnswer:
        """Take a delivery of an edge whose token shows this. Raises TooManyRequests, DatabaseUnavailable."""
        batch: UsageBatch | None = None
        if delivery.content:
            try:
                batch = usage.decode(delivery.content)
            except UsageError as error:
                return UsageAnswer(Outcome.REFUSED, detail=str(error))
        if self._waiting >= MOST_WAITING:
            raise TooManyRequests("Too many edges deliver usage at once.", headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._places:
                began = self._elapsed()
                async with self._database.write() as tx:
                    answer = await self._take(tx, delivery, batch, scope)
                pause = min(self._elapsed() - began, LONGEST_PAUSE_SECONDS) if self._waiting > AT_ONCE else 0.0
        finally:
            self._waiting -= 1
        return UsageAnswer(answer.outcome, answer.next_number, answer.lost, pause, answer.detail)

    async def hear(self, delivery: Delivery, scope: EdgeScope) -> frozenset[int]:
        """Take a delivery without a batch; the buckets, of those that the sender sees, that record addresses.

        Raises as `take` does.
        """
        await self.take(delivery, scope)
        async with self._database.read() as tx:
            recording = frozenset(await addresses.list_recording(tx))
            allowed = await self._allowed(tx, scope) if recording else None
        return recording if allowed is None else recording & allowed

    async def _take(
        self, tx: Transaction, delivery: Delivery, batch: UsageBatch | None, scope: EdgeScope
    ) -> UsageAnswer:
        now = self._millis()
        found = await find_deployment(tx)
        deployment_id = None if found is None else found.id
        if batch is not None and batch.deployment_id not in {deployment_id, UNFILLED}:
            return UsageAnswer(Outcome.REFUSED, detail=f"it is usage of deployment {batch.deployment_id}")
        sender = Sender(scope.account_id, delivery.instance, delivery.name, delivery.region)
        known_until = None if delivery.known_until is None else min(delivery.known_until, now)
        await rows_of.note_sender(tx, sender, known_until, now)
        await self._prune(tx, now)
        if batch is None:
            return UsageAnswer(Outcome.TAKEN)
        taken = await rows_of.lock_epoch(tx, batch.epoch, now)
        if batch.first_number > taken.next_number:
            return UsageAnswer(Outcome.GAP, taken.next_number)
        digest = usage.digest_of(delivery.content)
        if batch.number < taken.next_number:
            return await self._answer_again(tx, sender, batch, taken, digest, now)
        kept, lost = self._sift(batch, await self._allowed(tx, scope), now)
        losses = [*_losses_from(batch, taken.next_number), *lost]
        await rows_of.note_losses(tx, sender, losses, now)
        for loss in losses:
            _say(sender, loss)
        if kept:
            await self._append(tx, kept, Source(batch.instance, batch.name, batch.region))
        await rows_of.note_taken(tx, batch.epoch, taken, batch.number, digest, now)
        detail = ", ".join(f"{loss.lost} {loss.reason}" for loss in lost)
        return UsageAnswer(Outcome.TAKEN, batch.number + 1, sum(loss.lost or 0 for loss in lost), detail=detail)

    async def _answer_again(
        self, tx: Transaction, sender: Sender, batch: UsageBatch, taken: Taken, digest: bytes, now: int
    ) -> UsageAnswer:
        """To a number that was taken before: whether it was this batch."""
        known = taken.find_digest(batch.number)
        # What only says that a batch is lost is wrong in that.
        if known is None or known == digest or batch.is_stand_in:
            return UsageAnswer(Outcome.TAKEN, taken.next_number)
        if not await rows_of.is_noted(tx, batch.epoch, batch.number, LossReason.CONFLICT):
            loss = _loss_of(batch, batch.rows, LossReason.CONFLICT)
            await rows_of.note_losses(tx, sender, [loss], now)
            _say(sender, loss)
        return UsageAnswer(Outcome.CONFLICT, taken.next_number)

    def _sift(self, batch: UsageBatch, allowed: frozenset[int] | None, now: int) -> tuple[list[UsageRow], list[Loss]]:
        """The rows that count, and what is lost with the others. `allowed` are numbers of buckets; None: all."""
        this_hour = now // HOUR_MILLIS
        oldest = (now - self._hours_days * DAY_MILLIS) // HOUR_MILLIS
        kept: list[UsageRow] = []
        early: list[UsageRow] = []
        lost: dict[LossReason, list[UsageRow]] = {}
        for row in batch.rows:
            if allowed is not None and row.bucket_number not in allowed:
                lost.setdefault(LossReason.NOT_ALLOWED, []).append(row)
            elif row.hour < oldest:
                lost.setdefault(LossReason.TOO_OLD, []).append(row)
            elif row.hour > this_hour + 24:
                lost.setdefault(LossReason.FROM_AFTER_NOW, []).append(row)
            elif row.hour > this_hour:
                early.append(row)
            else:
                kept.append(row)
        if early:
            kept = _fold([*kept, *(_moved(row, now) for row in early)])
        return kept, [_loss_of(batch, some, reason) for reason, some in lost.items()]

    async def _allowed(self, tx: Transaction, scope: EdgeScope) -> frozenset[int] | None:
        if scope.is_everything:
            # Of buckets that were deleted meanwhile, too.
            return None
        now = self._elapsed()
        if now - self._seen_at >= SCOPE_SECONDS:
            self._seen.clear()
            self._seen_at = now
        if scope not in self._seen:
            puts = await rows_of.list_buckets(tx)
            self._seen[scope] = frozenset(put.number for put in puts if scope.view(put) is not None)
        return self._seen[scope]

    async def _prune(self, tx: Transaction, now: int) -> None:
        if self._elapsed() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = self._elapsed()
        epochs_before = now - (self._hours_days + LATER_DAYS) * DAY_MILLIS
        await rows_of.prune(tx, epochs_before=epochs_before, losses_before=now - LOSSES_DAYS * DAY_MILLIS)


def _losses_from(batch: UsageBatch, next_number: int) -> list[Loss]:
    """What the batch says is lost, but for batches that were taken after all."""
    return [one for one in batch.losses if one.epoch != batch.epoch or one.number is None or one.number >= next_number]


def _loss_of(batch: UsageBatch, some: Sequence[UsageRow], reason: LossReason) -> Loss:
    starts = [row.hour * HOUR_MILLIS for row in some]
    since = min((at + row.first_ms for at, row in zip(starts, some, strict=True)), default=batch.until)
    until = max((at + row.last_ms for at, row in zip(starts, some, strict=True)), default=batch.until)
    return Loss(batch.epoch, batch.first_number, batch.number, sum(row.total for row in some), since, until, reason)


def _moved(row: UsageRow, now: int) -> UsageRow:
    """A row of an hour that has not begun, by our clock, as one of this moment."""
    hour, at = divmod(now, HOUR_MILLIS)
    return row._replace(hour=hour, first_ms=min(row.first_ms, at), last_ms=at)


def _fold(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """The rows, with one for those that differ in nothing but their numbers."""
    folded: dict[UsageRow, UsageRow] = {}
    for row in rows:
        name = row._replace(total=0, first_ms=0, last_ms=0)
        before = folded.get(name)
        folded[name] = row if before is None else before._replace(
            total=before.total + row.total,
            first_ms=min(before.first_ms, row.first_ms),
            last_ms=max(before.last_ms, row.last_ms),
        )  # fmt: skip
    return list(folded.values())


def _say(sender: Sender, loss: Loss) -> None:
    many = "an unknown number of" if loss.lost is None else str(loss.lost)
    where = "" if loss.number is None else f", batches {loss.first_number} to {loss.number}"
    told = (many, sender.name, sender.instance, loss.reason, loss.epoch, where)
    log.warning("usage is lost: %s validations at the edge %s (%s): %s, epoch %s%s", *told)
