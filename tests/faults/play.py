"""Plays one schedule in a world, and holds what happened against the rules."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

from faults import checker
from faults.history import History
from faults.schedule import FAULT_SECONDS, Kind, Schedule, Step
from faults.traffic import Traffic
from faults.world import HEAL_SECONDS, World

BACK_SECONDS = 4.0
"""For how long they go on after an outage: who comes back then is who may have been overlooked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    schedule: Schedule
    violations: list[str]
    writes: int
    answers: int
    heal_seconds: float
    waited: int
    """Writes of which an answer said that all edges have them."""

    def __str__(self) -> str:
        counted = f"{self.writes} writes, {self.waited} of them waited for, {self.answers} answers"
        counted += f", healed in {self.heal_seconds:.1f} s"
        said = "".join(f"\n    {violation}" for violation in self.violations[:10])
        return f"{'FAILED' if said else 'ok'}  {self.schedule}  ({counted}){said}"


def play(world: World, schedule: Schedule) -> Outcome:
    history = History(base=world.head())
    # Where origins are away for long, what is told when they are back is what matters.
    many = {"writers": 6, "waits": 1.0} if schedule.kind is Kind.OUTAGE else {}
    traffic = Traffic(history, world.digester, schedule.seed, **many)
    traffic.start(world.origin_ports, world.readers)
    history.unhealed += _wait_until_served(world, traffic, "before anything went wrong")
    started_at = time.monotonic()
    moments: list[tuple[float, int, bool, Step]] = []
    for number, step in enumerate(schedule.steps):
        heapq.heappush(moments, (step.at, number, True, step))
        heapq.heappush(moments, (step.at + step.seconds, number, False, step))
    while moments:
        at, _, is_begin, step = heapq.heappop(moments)
        time.sleep(max(0.0, started_at + at - time.monotonic()))
        if is_begin:
            world.break_(step, history)
        else:
            world.mend(step, history)
    time.sleep(max(0.0, started_at + FAULT_SECONDS - time.monotonic()))
    healing_at = time.monotonic()
    world.heal()
    history.healed_at = time.monotonic()
    # Callers go on into the healed world, and must get somewhere there.
    history.unhealed += _wait_until_served(world, traffic, "after everything was healed")
    if schedule.kind is Kind.OUTAGE:
        time.sleep(BACK_SECONDS)
    traffic.stop()
    history.unhealed += world.wait_until_in_step()
    heal_seconds = time.monotonic() - healing_at
    if not history.unhealed:
        traffic.ask_last(world.readers)
    history.unhealed += [f"a caller failed: {error!r}" for error in traffic.failures]
    world.look(history)
    waited = sum(write.is_everywhere for write in history.writes)
    said = checker.violations(history)
    return Outcome(schedule, said, len(history.writes), len(history.answers), heal_seconds, waited)


def _wait_until_served(world: World, traffic: Traffic, when: str) -> list[str]:
    since = time.monotonic()
    while not traffic.is_served(since):
        if time.monotonic() > since + HEAL_SECONDS:
            return [f"not everybody was served {when}"]
        world.start_ended()
        time.sleep(0.02)
    return []
