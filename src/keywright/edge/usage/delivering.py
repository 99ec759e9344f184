"""Owns getting what waits in the spool to the origin: in order, one at a time, and kept until the origin has taken it.

One process of an edge does this for all, the one that follows. Two that do it at once, or one that does it again, harm
nothing: a batch is known by its name. What an outage has left is sent little by little, at most half of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from keywright.edge.origin_calls import NotTaken
from keywright.edge.usage import epoch_file
from keywright.protocol.usage import Loss, LossReason, UsageError
from keywright.protocol.usage_delivery import Delivery, Outcome, UsageAnswer
from keywright.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from keywright.edge.usage.counting import Counting
    from keywright.edge.usage.spool import Spool, SpooledBatch
    from keywright.edge.usage.wishes import Wishes
    from keywright.runtime.backoff import Uniform

_log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often it is looked whether there is something."""
TELL_SECONDS = 60.0
"""How often the origin is told up to when it has everything."""
AT_ONCE = 10
"""So many are sent without a pause between them."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
ANSWER_SECONDS = 30.0
SETTLED_NANOS = 1_000_000_000
LAST_SECONDS = 2.0


class UsageChannel(Protocol):
    """The way to the origin."""

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        """Raises NotTaken."""
        ...

    async def tell(self, delivery: Delivery) -> frozenset[int]:
        """A delivery without a batch; the numbers of the buckets that record addresses. Raises NotTaken."""
        ...

    async def close(self) -> None: ...


class Delivering:
    """`run` it, until it is cancelled, in one process of the edge."""

    def __init__(
        self,
        spool: Spool,
        channel: UsageChannel,
        counting: Counting,
        elapsed: Callable[[], float],
        uniform: Uniform,
        draw_nonce: Callable[[], str],
        wishes: Wishes,
    ) -> None:
        """`elapsed` counts seconds as `Clock.elapsed` does; `draw_nonce` gives 32 hexadecimal digits."""
        self._spool = spool
        self._channel = channel
        self._counting = counting
        self._elapsed = elapsed
        self._draw_nonce = draw_nonce
        self._wishes = wishes
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, uniform)
        self._told_at = float("-inf")
        self._has_failed = False
        self._waits = True
        self._seen_at: int | None = None
        """When the directory had changed at the last look; None: it was just then."""
        self._asked_for: tuple[str, int] | None = None
        """What the origin waited for last, which could not be found."""

    async def run(self) -> None:
        while True:
            pause = LOOK_SECONDS
            try:
                if self._is_due():
                    await self.deliver_all()
                self._backoff.reset()
                if self._has_failed:
                    self._has_failed = False
                    _log.info("usage is delivered again")
            except (NotTaken, OSError) as error:
                if not self._has_failed:
                    self._has_failed = True
                    _log.warning("usage can't be delivered, and waits in %s: %s", self._spool.directory, error)
                pause = self._backoff.next_pause()
            except Exception:  # noqa: BLE001
                # A bug, which must not end the delivering for good.
                _log.exception("usage can't be delivered")
                pause = self._backoff.next_pause()
            await asyncio.sleep(pause)

    def _is_due(self) -> bool:
        """Whether there may be something: nearly always there is not, which a look at the directory tells."""
        if self._waits or self._has_failed or self._elapsed() - self._told_at >= TELL_SECONDS:
            return True
        return self._seen_at is None or _changed_at(self._spool.directory) != self._seen_at

    async def deliver_last(self) -> None:
        """What an end has left, if that can be done at once: else it waits for the next start."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.deliver_all()
        except (TimeoutError, NotTaken, OSError) as error:
            _log.warning(
                "usage waits in %s for the next start: %s", self._spool.directory, error or "no answer in time"
            )

    async def deliver_all(self) -> None:
        """What waits now; and up to when the origin has everything, from time to time. Raises NotTaken, OSError."""
        stopped: set[str] = set()
        self._waits = True
        seen_at = _changed_at(self._spool.directory)
        known_until, waiting = await asyncio.to_thread(self._look)
        for at, one in enumerate(waiting):
            if one.epoch in stopped:
                continue
            began = self._elapsed()
            try:
                content = await asyncio.to_thread(self._spool.read, one)
            except UsageError as error:
                await asyncio.to_thread(self._replace, one, LossReason.DAMAGED, str(error))
                stopped.add(one.epoch)
                continue
            if content is None:
                # Somebody else has delivered it, or room was needed.
                stopped.add(one.epoch)
                continue
            answer = await self._send(known_until, content)
            if not await self._settle(one, answer):
                stopped.add(one.epoch)
            pause = self._elapsed() - began if at >= AT_ONCE else 0.0
            if pause or answer.pause_seconds:
                await asyncio.sleep(max(pause, answer.pause_seconds))
        if self._elapsed() - self._told_at >= TELL_SECONDS:
            known_until, _ = await asyncio.to_thread(self._look)
            recording = await _in_time(self._channel.tell(self._delivery(known_until)))
            self._told_at = self._elapsed()
            await asyncio.to_thread(self._wishes.put, self._counting.deployment_id, recording)
        self._waits, self._seen_at = bool(waiting), seen_at

    async def _send(self, known_until: int | None, content: bytes) -> UsageAnswer:
        return await _in_time(self._channel.deliver(self._delivery(known_until, content)))

    def _delivery(self, known_until: int | None, content: bytes = b"") -> Delivery:
        who = self._counting
        return Delivery(who.instance, who.name, who.region, self._draw_nonce(), known_until, content)

    async def _settle(self, one: SpooledBatch, answer: UsageAnswer) -> bool:
        """Do as the origin says; whether the epoch's next batch may be sent now. Raises NotTaken, OSError."""
        match answer.outcome:
            case Outcome.TAKEN:
                if answer.lost:
                    _log.warning("usage is lost: %d validations of %s: %s", answer.lost, one.path.name, answer.detail)
                await asyncio.to_thread(self._spool.remove, one)
                self._asked_for = None
                return True
            case Outcome.CONFLICT:
                _log.error(
                    "usage is lost: the origin had another batch before %s: is this a copy of a machine, or was it "
                    "restored while it ran? Its process counts under another name from here on",
                    one.path.name,
                )
                await asyncio.to_thread(epoch_file.give_up, self._spool.directory, one.epoch)
                await asyncio.to_thread(self._spool.remove, one)
                return True
            case Outcome.GAP:
                await asyncio.to_thread(self._fill, one, answer.next_number)
                return False
            case Outcome.REFUSED:
                await asyncio.to_thread(self._spool.set_aside, one, f"the origin refuses it: {answer.detail}")
                return False

    def _look(self) -> tuple[int | None, list[SpooledBatch]]:
        """Up to when all that was counted was taken, and what is yet to be sent. Raises OSError."""
        # In this order: who seals meanwhile has the file there before it says so.
        living = epoch_file.list_living(self._spool.directory)
        waiting = self._spool.list_waiting()
        bounds = [one.until for one in living]
        known = [bound for bound in bounds if bound is not None]
        is_known = bool(known) and len(known) == len(bounds)
        return min([*known, *(one.since for one in waiting)]) if is_known else None, waiting

    def _fill(self, one: SpooledBatch, wanted: int) -> None:
        """Say that batches are lost which the origin waits for and nobody has. Raises NotTaken, OSError."""
        there = [each for each in self._spool.list_waiting() if each.epoch == one.epoch and each.number < one.number]
        if any(each.first_number <= wanted <= each.number for each in there):
            return
        if not wanted < one.first_number or self._asked_for == (one.epoch, wanted):
            raise NotTaken(f"the origin waits for batch {wanted} of {one.epoch} before {one.first_number}")
        self._asked_for = one.epoch, wanted
        last = min([each.first_number for each in there if each.first_number > wanted] or [one.first_number]) - 1
        _log.error("usage is lost: the origin waits for batches %d to %d of %s", wanted, last, one.epoch)
        loss = Loss(one.epoch, wanted, last, None, one.since, one.since, LossReason.MISSING)
        self._spool.put(self._counting.stand_in(one.epoch, wanted, last, (loss,)), one.since)

    def _replace(self, one: SpooledBatch, reason: LossReason, why: str) -> None:
        loss = Loss(one.epoch, one.first_number, one.number, None, one.since, one.since, reason)
        self._spool.put(self._counting.stand_in(one.epoch, one.first_number, one.number, (loss,)), one.since)
        self._spool.set_aside(one, why)


async def _in_time(answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except TimeoutError:
        raise NotTaken("no answer in time") from None


def _changed_at(directory: Path) -> int | None:
    """When a file came or went, in nanoseconds. None where another one may come at what is the same moment to a file
    system. Raises OSError.
    """
    changed_at = directory.stat().st_mtime_ns
    return changed_at if time.time_ns() - changed_at > SETTLED_NANOS else None
