"""Owns the usage of the edge beside an origin: handed over in the process itself."""

from __future__ import annotations

from keywright.domain.problems import Problem
from keywright.edge.origin_calls import NotTaken
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.edges.scopes import EVERYTHING
from keywright.origin.usage.intake.rules import Intake
from keywright.protocol.usage_delivery import Delivery, UsageAnswer


class OwnUsageChannel:
    """To the intake of this very process."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        try:
            return await self._intake.take(delivery, EVERYTHING)
        except (Problem, DatabaseUnavailable) as error:
            raise NotTaken(str(error)) from error

    async def tell(self, delivery: Delivery) -> frozenset[int]:
        try:
            return await self._intake.hear(delivery, EVERYTHING)
        except (Problem, DatabaseUnavailable) as error:
            raise NotTaken(str(error)) from error

    async def close(self) -> None: ...
