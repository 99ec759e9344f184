"""Owns waiting, a quarter of a second at most, until what a question lacks of quotas is lent or refused."""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from keywright.domain.verdict import Lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keywright.domain.verdict import Result
    from keywright.edge.limits.takers import Takers

WAIT_SECONDS = 0.25
FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.01
RING_SECONDS = 0.1
"""Who heard it first may have died."""


class WaitOutcome(StrEnum):
    """What a question that waited came to."""

    LENT = "lent"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


async def settled(
    found: Lacking, takers: Takers, validate: Callable[[], Result], give_up: Callable[[], Result]
) -> Result:
    """The verdict where quotas must be lent first: `validate` asks for it again, `give_up` what holds without them."""
    result: Result = found
    for pause, is_ringing in pauses():
        if type(result) is not Lacking or result.is_in_vain:
            break
        await asyncio.sleep(pause)
        if is_ringing or _is_worth_asking(result, takers):
            result = validate()
    return _ended(result, takers, give_up)


def settled_here(
    found: Lacking, takers: Takers, validate: Callable[[], Result], give_up: Callable[[], Result]
) -> Result:
    """The same for who has no event loop: this thread waits."""
    result: Result = found
    for pause, is_ringing in pauses():
        if type(result) is not Lacking or result.is_in_vain:
            break
        time.sleep(pause)
        if is_ringing or _is_worth_asking(result, takers):
            result = validate()
    return _ended(result, takers, give_up)


def _ended(result: Result, takers: Takers, give_up: Callable[[], Result]) -> Result:
    if type(result) is Lacking:
        takers.waits[WaitOutcome.UNANSWERED] += 1
        return give_up()
    takers.waits[WaitOutcome.LENT if result.is_valid else WaitOutcome.REFUSED] += 1
    return result


def pauses() -> Iterator[tuple[float, bool]]:
    """How long to wait before it is asked again, and whether to ring then. Ends in time."""
    pause, rung_at = FIRST_PAUSE_SECONDS, time.monotonic()
    deadline = rung_at + WAIT_SECONDS
    while (now := time.monotonic()) < deadline:
        is_ringing = now - rung_at >= RING_SECONDS
        rung_at = now if is_ringing else rung_at
        yield min(pause, deadline - now), is_ringing
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def _is_worth_asking(lacking: Lacking, takers: Takers) -> bool:
    return any(not lack.is_heard or takers.has_changed(lack) for lack in lacking.lacks)
