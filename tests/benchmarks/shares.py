"""What sharing a limit between edges costs: overshoot and early refusals, simulated, and the origin's work, measured.

The simulation is of time and traffic alone: the ledger, the edges' rules and the counting are the product's own
(tests/support/shares.py). Requests come at random moments. Beside it one exact counter sees the same requests, as a
single server would: what it lets through and edges do not was refused too early; what edges let through beyond the
limit and what it gives back is overshoot.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from plan import Plan, progress
from report import Table, number

from keywright.domain.keyformat import Digester
from keywright.edge.shares.held import HeldShares
from keywright.edge.shares.meter import UseMeter
from keywright.edge.shares.sharing import USED_SECONDS
from keywright.origin.edges.scopes import EVERYTHING
from keywright.origin.limits import rules
from keywright.origin.limits.ledger import Ledger
from keywright.origin.limits.rules import Shares
from keywright.protocol.shares import WHOLE, SharesSigner, Use, UseReport
from support import record
from support.shares import Bucket, SharingEdge, limit_id, tell

FLEETS = (2, 4, 8, 64)
LIMIT, WINDOW = 600, 60
RATE = LIMIT / WINDOW
ID = limit_id(1)
STEP, PERIOD, BATCH = 0.1, 1.0, 0.4
SECONDS, EVENT_AT, EVENT_SECONDS = 150.0, 60.0, 45.0
SEEDS = 3
Load = Callable[[float, int], Sequence[float]]
"""At a moment, for so many edges: how many requests a second come to each."""


@dataclass
class Simulation:
    """A fleet through one run. Who `is_cut` asks nobody, and is asked on."""

    edges: int
    load: Load
    is_cut: Callable[[float, int], bool] = lambda now, edge: False
    is_there: Callable[[float, int], bool] = lambda now, edge: True
    seed: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    admitted: int = 0
    exact: int = 0
    offered: int = 0
    most: float = 0.0

    def run(self) -> None:
        rng, began = random.Random(self.seed), -30.0
        asking = [SharingEdge.new(f"edge-{number}", began) for number in range(self.edges)]
        counts = [Bucket(LIMIT, WINDOW) for _ in asking]
        due = [began + rng.uniform(0, PERIOD) for _ in asking]
        left = [0] * self.edges
        meters = [UseMeter(began) for _ in asking]
        one = Bucket(LIMIT, WINDOW, WHOLE)
        level, at, batch_at = 0.0, 0.0, began
        now = began
        while now < SECONDS:
            if now >= batch_at:
                batch_at += BATCH
                together = []
                for edge, sharing in enumerate(asking):
                    if now >= due[edge] and self.is_there(now, edge) and not self.is_cut(now, edge):
                        due[edge] = now + PERIOD
                        found = counts[edge].list_uses(ID, USED_SECONDS, now)
                        uses = meters[edge].measure(found, now)
                        freed, left[edge] = {ID: left[edge]} if left[edge] else {}, 0
                        together.append((sharing, sharing.ask(uses, now, freed)))
                if together:
                    tell(self.ledger, together, now)
                    for sharing, asked in together:
                        assert asked.answer is not None
                        sharing.held.take(asked.answer, asked.asked_at)
                gone = {sharing.key for edge, sharing in enumerate(asking) if self.is_there(now, edge)}
                self.ledger.prune(gone, now)
            for edge, sharing in enumerate(asking):
                unused = sharing.held.unused.pop(ID, 0)
                share, is_told = sharing.held.share_of(ID, now), ID in sharing.held.shares
                left[edge] += counts[edge].go_by(share, unused, now, is_told=is_told)
            if now >= 0:
                loads = self.load(now, self.edges)
                for edge in range(self.edges):
                    for _ in range(_poisson(rng, loads[edge] * STEP)):
                        self.offered += 1
                        if one.take(now):
                            self.exact += 1
                        if counts[edge].take(now):
                            self.admitted += 1
                            level = max(level - (now - at) * RATE, 0.0) + 1
                            at = now
                            self.most = max(self.most, level)
            now = round(now + STEP, 6)


def run(plan: Plan) -> Sequence[Table]:
    seeds = range(SEEDS if plan.seconds > 1 else 1)
    fleets = FLEETS if plan.seconds > 1 else FLEETS[:1]
    over = Table(
        f"a limit of {LIMIT} in {WINDOW} s, shared: overshoot, in % of the limit",
        ("traffic", *(f"{edges} edges" for edges in fleets)),
    )
    early = Table(
        "the same: refused too early, in % of what one counter would let through",
        ("traffic", *(f"{edges} edges" for edges in fleets)),
    )
    for name, made in SCENARIOS.items():
        progress(f"shares: {name}")
        overs, earlies = [], []
        for edges in fleets:
            runs = []
            for seed in seeds:
                simulation = made(edges, seed)
                simulation.run()
                runs.append(simulation)
            overs.append(f"{max(max(one.most - LIMIT, 0) for one in runs) / LIMIT * 100:.1f}")
            earlies.append(f"{mean((one.exact - one.admitted) / one.exact for one in runs) * 100:.1f}")
        over.add(name, *overs)
        early.add(name, *earlies)
    return [over, early, asyncio.run(_work(plan))]


def _poisson(rng: random.Random, expected: float) -> int:
    if not expected:
        return 0
    count, waited = 0, rng.expovariate(expected)
    while waited < 1:
        count += 1
        waited += rng.expovariate(expected)
    return count


def _even(rate: float) -> Load:
    return lambda now, edges: [rate / edges] * edges


def _at_one(rate: float, every: float | None = None) -> Load:
    def load(now: float, edges: int) -> Sequence[float]:
        chosen = 0 if every is None else int(now // every) % edges
        return [rate if edge == chosen else 0.0 for edge in range(edges)]

    return load


def _during(now: float) -> bool:
    return EVENT_AT <= now < EVENT_AT + EVENT_SECONDS


def _joining(rate: float) -> Load:
    """The last edge is there from EVENT_AT on."""
    return lambda now, edges: [
        rate / (edges - (now < EVENT_AT)) if edge < edges - 1 or now >= EVENT_AT else 0.0 for edge in range(edges)
    ]


def _leaving(rate: float) -> Load:
    """The last edge is gone from EVENT_AT on, and its traffic with the others."""
    return lambda now, edges: [
        rate / (edges - (now >= EVENT_AT)) if edge < edges - 1 or now < EVENT_AT else 0.0 for edge in range(edges)
    ]


LESS, MORE = 0.8 * RATE, 2 * RATE
SCENARIOS: dict[str, Callable[[int, int], Simulation]] = {
    "80 % of the limit, even": lambda edges, seed: Simulation(edges, _even(LESS), seed=seed),
    "200 %, even": lambda edges, seed: Simulation(edges, _even(MORE), seed=seed),
    "80 %, all at one edge": lambda edges, seed: Simulation(edges, _at_one(LESS), seed=seed),
    "200 %, all at one edge": lambda edges, seed: Simulation(edges, _at_one(MORE), seed=seed),
    "80 %, at one, another every 20 s": lambda edges, seed: Simulation(edges, _at_one(LESS, 20), seed=seed),
    "200 %, at one, another every 20 s": lambda edges, seed: Simulation(edges, _at_one(MORE, 20), seed=seed),
    "200 %, even, one edge joins": lambda edges, seed: Simulation(
        edges, _joining(MORE), is_there=lambda now, edge: edge < edges - 1 or now >= EVENT_AT, seed=seed
    ),
    "200 %, even, one edge leaves": lambda edges, seed: Simulation(
        edges, _leaving(MORE), is_there=lambda now, edge: edge < edges - 1 or now < EVENT_AT, seed=seed
    ),
    "200 %, even, one edge is cut off for 45 s": lambda edges, seed: Simulation(
        edges, _even(MORE), is_cut=lambda now, edge: edge == edges - 1 and _during(now), seed=seed
    ),
    "200 %, all at one edge, the others cut off for 45 s": lambda edges, seed: Simulation(
        edges, _at_one(MORE), is_cut=lambda now, edge: edge > 0 and _during(now), seed=seed
    ),
    "200 %, even, the origin is away for 45 s": lambda edges, seed: Simulation(
        edges, _even(MORE), is_cut=lambda now, edge: _during(now), seed=seed
    ),
    "200 %, all at one edge, the origin is away for 45 s": lambda edges, seed: Simulation(
        edges, _at_one(MORE), is_cut=lambda now, edge: _during(now), seed=seed
    ),
}


async def _work(plan: Plan) -> Table:
    """The CPU time of an origin that each of 64 edges asks once a second, on SQLite."""
    table = Table(
        "the origin's work, all limits in use at all edges", ("edges x limits", "CPU ms a second", "KB in, out")
    )
    for edges, limits in ((2, 100), (64, 100), (64, 1_000)) if plan.seconds > 1 else ((2, 10),):
        progress(f"shares: {edges} edges, {limits} limits")
        url = f"sqlite+aiosqlite:///{plan.directory}/shares-{edges}-{limits}.db"
        async with record.opened(url) as opened:
            table.add(f"{edges} x {limits:,}", *await _measure(opened, edges, limits))
    return table


async def _measure(opened: record.Record, edges: int, limits: int) -> tuple[str, str]:
    async with opened.database.read() as tx:
        found = await rules.find_deployment(tx)
    assert found is not None
    signer, clock = SharesSigner(Digester(secrets.token_bytes(32))), [1000.0]
    shares = Shares(opened.database, lambda: clock[0])
    held = [HeldShares(0.0) for _ in range(edges)]
    rng = random.Random(1)
    sizes = [0, 0]

    async def ask(edge: int, second: int) -> None:
        uses = {limit_id(number): Use(rng.uniform(0, 0.4), rng.random() < 0.1, 600, 60) for number in range(limits)}
        report = UseReport(found.id, f"instance-of-{edge:0>8}", "0" * 16, second, held[edge].taken(clock[0]), uses)
        data = signer.encode_report(report)
        received = signer.decode_report(data)
        answer = await shares.answer(received, EVERYTHING)
        answered = signer.encode_answer(answer, received)
        sizes[0], sizes[1] = len(data), len(answered)
        held[edge].take(answer, clock[0])

    spent = []
    for second in range(1, 9):
        made_before = time.process_time()
        # Two batches a second, as they come.
        for part in range(2):
            await asyncio.gather(*(ask(edge, second) for edge in range(edges) if edge % 2 == part))
            clock[0] += 0.5
        spent.append(time.process_time() - made_before)
    return number(min(spent[3:]) * 1000), f"{sizes[0] / 1000:.0f}, {sizes[1] / 1000:.0f}"
