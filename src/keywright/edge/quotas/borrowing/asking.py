"""Owns asking the origin for quotas: questions in their order, what is due first, and what an answer comes to.

What the origin makes of a question is told in protocol/leases.py. No question is asked again: sums are told, and the
next one makes good what was lost.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from keywright.protocol.leases import MAX_ASKS, Ask, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keywright.edge.quotas.borrowing.holding import Holding
    from keywright.edge.quotas.borrowing.holdings import Holdings
    from keywright.protocol.leases import Answer

ANSWER_SECONDS = 5.0
MOST_CONFLICTS = 3


class NotLent(Exception):
    """The question did not get there, or was not answered."""


class SetBack(NotLent):
    """The origin has answered a later question of this edge: what is on this disk is of before."""


class LeaseChannel(Protocol):
    """The way to the origin."""

    async def ask(self, question: Question) -> Answer:
        """Raises NotLent."""
        ...


class Asking:
    """Of one start of the borrower."""

    def __init__(
        self, channel: LeaseChannel, holdings: Holdings, elapsed: Callable[[], float], cursor: Callable[[], str]
    ) -> None:
        """`cursor` is where the edge's replica is; "" while it has no snapshot."""
        self._channel = channel
        self.holdings = holdings
        self._elapsed = elapsed
        self._cursor = cursor
        self._number = 0
        self._has_answered = False
        self._conflicts = 0
        self.failing_since: float | None = None
        """When no answer came for the first time since one did."""

    async def ask(self, due: list[Holding]) -> bool:
        """Account for what is closed, and ask for these; whether all was answered.

        Raises OSError, Overtaken, SetBack.
        """
        due.sort(key=lambda one: not one.need)
        while due or self.holdings.closing:
            some, due = due[:MAX_ASKS], due[MAX_ASKS:]
            closing = list(self.holdings.closing.values())[: MAX_ASKS - len(some)]
            await self.holdings.give_back(some)
            asked_at = self._elapsed()
            answer = await self._answer(some, closing)
            if answer is None:
                self.failing_since = asked_at if self.failing_since is None else self.failing_since
                await self.holdings.fail(some + due)
                return False
            self.failing_since = None
            await self.holdings.take(some, answer, closing, asked_at)
        return True

    async def _answer(self, some: Sequence[Holding], closing: Sequence[Ask]) -> Answer | None:
        """None for none. Raises SetBack."""
        holdings = self.holdings
        self._number += 1
        question = Question(
            holdings.deployment_id,
            holdings.notes.instance,
            holdings.notes.start,
            self._number,
            holdings.place,
            self._cursor(),
            len(closing) == len(holdings.closing),
            (*closing, *(one.ask() for one in some)),
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._channel.ask(question)
            if len(answer.loans) != len(question.asks):
                raise NotLent("the answer is to another question")
        except TimeoutError:
            holdings.failures.note(NotLent("no answer in time"), logging.WARNING)
            return None
        except NotLent as error:
            self._conflicts += isinstance(error, SetBack)
            if isinstance(error, SetBack) and (not self._has_answered or self._conflicts > MOST_CONFLICTS):
                raise
            holdings.failures.note(error, logging.WARNING)
            return None
        self._has_answered, self._conflicts = True, 0
        holdings.failures.clear()
        return answer
