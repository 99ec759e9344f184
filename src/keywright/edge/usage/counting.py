"""Owns as whom the processes of an edge count, and so what their batches say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.protocol.usage import UsageBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.protocol.usage import Loss, UsageRow


@dataclass(slots=True)
class Counting:
    """`deployment_id` is whose record the replica held when it was looked at last; `millis` gives
    milliseconds since the epoch by the clock that keys are judged by.
    """

    instance: str
    name: str
    region: str
    deployment_id: str
    millis: Callable[[], int]

    def batch(
        self, epoch: str, number: int, until: int, rows: tuple[UsageRow, ...], losses: tuple[Loss, ...] = ()
    ) -> UsageBatch:
        return self._batch(epoch, number, number, until, rows, losses)

    def stand_in(self, epoch: str, first_number: int, number: int, losses: tuple[Loss, ...]) -> UsageBatch:
        """What stands for batches that are lost."""
        return self._batch(epoch, first_number, number, max(loss.until for loss in losses), (), losses)

    def _batch(
        self,
        epoch: str,
        first_number: int,
        number: int,
        until: int,
        rows: tuple[UsageRow, ...],
        losses: tuple[Loss, ...],
    ) -> UsageBatch:
        return UsageBatch(
            self.deployment_id,
            epoch,
            first_number,
            number,
            self.instance,
            self.name,
            self.region,
            self.millis(),
            max(until, 0),
            rows,
            losses,
        )
