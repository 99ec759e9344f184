"""A process that counts, without its endpoints: it may be stopped as it should, or be killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from keywright.domain.powers import NO_DEMAND
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict
from keywright.edge.origin_calls import NotTaken
from keywright.edge.usage.counter import UsageCounter
from keywright.edge.usage.counting import Counting
from keywright.edge.usage.delivering import Delivering, UsageChannel
from keywright.edge.usage.sealer import Sealer
from keywright.edge.usage.spool import Spool
from keywright.edge.usage.wishes import Wishes
from keywright.protocol import usage
from keywright.protocol.usage import UsageBatch
from keywright.protocol.usage_delivery import Delivery, Outcome, UsageAnswer
from support.clock import FakeClock

INSTANCE = "0123456789abcdef"
BUCKET = "my-bucket"
OWNER = ConsumerRecord("csmr_1", "one", b"{}")
_numbers = count(1)


def draw() -> str:
    """32 hexadecimal digits that no other test of this process has."""
    return f"{next(_numbers):032x}"


class CountingProcess:
    """One process of the edge whose spool is in `directory`. `bucket_number` is that of every bucket."""

    def __init__(
        self,
        directory: Path,
        clock: FakeClock,
        *,
        bucket_number: int = 1,
        deployment_id: str = "dep_1",
        instance: str = INSTANCE,
        most_bytes: int = 1 << 28,
    ) -> None:
        self.clock = clock
        self.spool = Spool(directory, most_bytes)
        self.counting = Counting(instance, "fra-1", "eu", deployment_id, clock.millis)
        self.counter = UsageCounter(lambda _: bucket_number)
        self.sealer = Sealer(self.counter, self.spool, self.counting, clock.elapsed, draw)
        self.sealer.tick()

    def use(self, key: int | None = 1, times: int = 1, verdict: Verdict | None = None) -> None:
        record = None if key is None else KeyRecord(f"key_{key}", key, None)
        owner = None if key is None else OWNER
        said = verdict or (Verdict.UNKNOWN if key is None else Verdict.VALID)
        for _ in range(times):
            self.counter.count(BUCKET, record, owner, said, self.clock.millis(), NO_DEMAND)

    def tick(self, seconds: float = 1.0) -> None:
        """That much later."""
        self.clock.advance(seconds)
        self.sealer.tick()

    def seal(self) -> None:
        """Have all that was counted so far in the spool, as it is a minute later."""
        self.tick(61.0)
        self.tick()

    def kill(self) -> None:
        """As the system does it: what was counted is gone, and locks are let go of."""
        file = self.sealer._file
        if file is not None:
            os.close(file._descriptor)
            self.sealer._file = None

    def batches(self) -> list[UsageBatch]:
        return [usage.decode(one.path.read_bytes()) for one in self.spool.list_waiting()]

    def delivering(self, channel: UsageChannel) -> Delivering:
        wishes = Wishes(self.spool.directory)
        return Delivering(self.spool, channel, self.counting, self.clock.elapsed, lambda low, _: low, draw, wishes)


def total_of(batches: Iterable[UsageBatch]) -> int:
    return sum(row.total for batch in batches for row in batch.rows)


@dataclass
class Answering:
    """An origin that takes all, unless it is told otherwise: `answers` are given first."""

    answers: list[UsageAnswer | Exception] = field(default_factory=list)
    heard: list[Delivery] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    recording: frozenset[int] = frozenset()

    async def deliver(self, delivery: Delivery) -> UsageAnswer:
        self.before()
        self.heard.append(delivery)
        answer = self.answers.pop(0) if self.answers else UsageAnswer(Outcome.TAKEN)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def tell(self, delivery: Delivery) -> frozenset[int]:
        await self.deliver(delivery)
        return self.recording

    async def close(self) -> None: ...

    @property
    def batches(self) -> Iterator[UsageBatch]:
        return (usage.decode(one.content) for one in self.heard if one.content)


AWAY = NotTaken("away")
