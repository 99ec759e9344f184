"""Edges that spend a quota as they must, against real origins that die: what they served, and what their deaths hid.

An edge here is one task. It notes ahead of need, on a disk that survives it, how far it may spend; it spends only while
its lease lives, counted from before it asked; and it may die, or stop to listen, at any moment.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import httpx2

from keywright.protocol.leases import Ask, LeaseSigner, Loan, Outcome, Question

STEP = 5
MARGIN_SECONDS = 1.0
ASK_SECONDS = 3.0
QUOTA = "calls"


@dataclass
class Tally:
    """What all edges did, as the checker sees it."""

    served: int = 0
    hidden: int = 0
    refused: int = 0
    unheard: int = 0
    kills: int = 0


@dataclass
class Note:
    """What an edge wrote down of one lease: it lasts when the edge dies."""

    lease: int
    may_spend: int
    returned: int


@dataclass
class LeasingEdge:
    urls: Sequence[str]
    token: str
    signer: LeaseSigner
    deployment_id: str
    consumer_number: int
    tally: Tally
    chance: random.Random
    instance: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    start: int = 1
    place: str = ""
    loan: Loan = field(default_factory=lambda: Loan(Outcome.UNKNOWN))
    spent: int = 0
    returned: int = 0
    ends_at: float = 0.0
    note: Note | None = None
    left: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.token}"})
        self.numbers = itertools.count(1)

    @property
    def held(self) -> int:
        return self.loan.granted - self.spent - self.returned if now() < self.ends_at else 0

    async def request(self, cost: int) -> bool:
        """Whether a request of a client is served."""
        if self.held < cost:
            await self.ask(need=cost, want=20)
        if self.held < cost:
            self.tally.refused += 1
            return False
        assert self.note is not None
        if self.spent + cost > self.note.may_spend:
            self.note.may_spend = min(self.spent + cost + STEP, self.loan.granted - self.returned)
        self.spent += cost
        self.tally.served += cost
        return True

    async def ask(self, *, need: int = 0, want: int = 0, seconds: float | None = None) -> bool:
        """Asks any origin, and may stop listening before the answer comes. Whether it heard one."""
        asked_at = now()
        own = Ask(self.consumer_number, QUOTA, self.loan.lease, want=want, need=need)
        if self.loan.lease:
            own = replace(own, spent=self.spent, returned=self.returned)
        left, closing = list(self.left), []
        for note in left:
            closing.append(Ask(self.consumer_number, QUOTA, note.lease, note.may_spend, note.returned, is_last=True))
        names = self.deployment_id, self.instance, self.start
        question = Question(*names, next(self.numbers), self.place, "", True, (*closing, own))
        data = self.signer.encode_question(question)
        try:
            async with asyncio.timeout(self.chance.choice([0.02, 0.1, ASK_SECONDS]) if seconds is None else seconds):
                answer = await self.client.post(f"{self.chance.choice(self.urls)}/v1/feed/leases", content=data)
        except (httpx2.TransportError, TimeoutError):
            self.tally.unheard += 1
            return False
        if answer.status_code != 200:
            # 503 while the database or the origin starts; 409 where a later question overtook this one.
            assert answer.status_code in {409, 500, 502, 503}, answer.text
            assert answer.status_code != 500, answer.text
            self.tally.unheard += 1
            return False
        told = self.signer.decode_answer(data, answer.content)
        self.place, loan = told.place, told.loans[-1]
        self.left = [note for note in self.left if note not in left]
        if loan.lease != self.loan.lease:
            self.spent = self.returned = 0
            self.note = Note(loan.lease, 0, 0) if loan.lease else None
        self.loan, self.ends_at = loan, asked_at + loan.life_millis / 1000 - MARGIN_SECONDS
        return True

    async def give_back(self) -> None:
        """Some of what it holds: first it writes down that it will not spend it."""
        if self.note is not None and self.held:
            units = self.chance.randrange(self.held + 1)
            self.note.may_spend = min(self.note.may_spend, self.loan.granted - self.returned - units)
            if self.note.may_spend >= self.spent:
                self.note.returned = self.returned = self.returned + units
                await self.ask(want=self.held)

    def die(self) -> None:
        """kill -9, and back as another start of the same edge."""
        self.tally.kills += 1
        if self.note is not None:
            self.tally.hidden += self.note.may_spend - self.spent
            self.left.append(self.note)
        self.loan, self.note, self.ends_at = Loan(Outcome.UNKNOWN), None, 0.0
        self.spent = self.returned = 0
        self.start, self.numbers = self.start + 1, itertools.count(1)

    async def live(self, until: float) -> None:
        while now() < until:
            match self.chance.randrange(20):
                case 0:
                    self.die()
                case 1:
                    await self.give_back()
                case _:
                    await self.request(self.chance.choice([1, 1, 1, 3]))
            await asyncio.sleep(self.chance.random() * 0.02)


def now() -> float:
    """Counts on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
