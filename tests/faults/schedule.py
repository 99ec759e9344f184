"""What goes wrong in one run, and when: all of it follows from a seed, so that it can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

FAULT_SECONDS = 2.0
LONGEST_FREEZE_SECONDS = 8.0
"""Longer than it takes until a process that does not move is replaced."""
LONGEST_OUTAGE_SECONDS = 60.0
EDGES = ("edge-1", "edge-2")


class Engine(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    NATS = "nats"
    """PostgreSQL, two workers, and a broker: the one edge follows that, the other the origin."""
    ORIGINS = "origins"
    """PostgreSQL and two origins; the one edge follows the first, the other whichever takes it."""


class Kind(StrEnum):
    """Of schedules; the value is what `make test-faults` calls it."""

    PLAIN = ""
    OUTAGE = "outages"
    FROZEN = "frozen"


class Fault(StrEnum):
    KILL = "kill -9"
    PAUSE = "SIGSTOP"
    STOP = "SIGTERM"
    CLOCK = "kill -9, and back with a clock an hour off"
    CORRUPT = "kill -9, and bytes of its replica overwritten"
    FILL = "full"
    CUT = "cut"
    STALL = "silent"
    DEAF = "carries requests only"
    MUTE = "carries answers only"
    SLOW = "slow"
    FREEZE = "SIGSTOP of one process"
    JUNK = "junk"


LINK_FAULTS = (Fault.CUT, Fault.STALL, Fault.DEAF, Fault.MUTE, Fault.SLOW)


def targets_of(engine: Engine) -> dict[str, tuple[Fault, ...]]:
    """What may be harmed, and how."""
    targets: dict[str, tuple[Fault, ...]] = {"origin": (Fault.KILL, Fault.PAUSE, Fault.CLOCK)}
    if engine is Engine.ORIGINS:
        targets["origin-2"] = targets["origin"]
    if engine is not Engine.SQLITE:
        targets["database"] = (Fault.KILL, Fault.PAUSE)
    if engine is Engine.NATS:
        targets["broker"] = (Fault.KILL, Fault.PAUSE)
        targets["origin's link"] = LINK_FAULTS
    for edge in EDGES:
        targets[edge] = (Fault.KILL, Fault.PAUSE, Fault.CORRUPT, Fault.CLOCK)
        # Things of their own: an edge may be killed, and started, while its disk is full or its link is cut.
        targets[f"{edge}'s disk"] = (Fault.FILL,)
        targets[f"{edge}'s link"] = LINK_FAULTS
    return targets


def frozen_targets_of(engine: Engine) -> dict[str, tuple[Fault, ...]]:
    """What may stop moving, be cut off, or be told junk, while all else goes on."""
    targets: dict[str, tuple[Fault, ...]] = {"origin": (Fault.PAUSE,)}
    for owner in ("origin", *EDGES):
        targets[f"{owner}'s follower"] = targets[f"{owner}'s worker"] = (Fault.FREEZE,)
    if engine is not Engine.SQLITE:
        targets["database"] = (Fault.PAUSE,)
    if engine is Engine.NATS:
        targets["broker"] = (Fault.PAUSE,)
        targets["broker's subjects"] = (Fault.JUNK,)
        targets["origin's link"] = (Fault.CUT, Fault.STALL)
    for edge in EDGES:
        targets[edge] = (Fault.PAUSE, Fault.KILL)
        targets[f"{edge}'s link"] = (Fault.CUT, Fault.STALL)
    return targets


@dataclass(frozen=True, slots=True)
class Step:
    """A fault of `target` from `at` on, for some seconds. `seed` is for what it leaves to chance itself."""

    at: float
    seconds: float
    fault: Fault
    target: str
    seed: int

    @property
    def owner(self) -> str:
        """Whose link or disk it is, or the target itself."""
        return self.target.partition("'")[0]

    @property
    def kind_of_target(self) -> str:
        """Edges, and origins, are of one kind."""
        return self.target.replace("-1", "").replace("-2", "")

    def __str__(self) -> str:
        return f"{self.at:.2f} s: {self.target}: {self.fault}, for {self.seconds:.2f} s"


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    engine: Engine
    steps: tuple[Step, ...]
    kind: Kind = Kind.PLAIN

    @classmethod
    def of(cls, seed: int, engine: Engine | None = None, *, has_clock: bool = True) -> Schedule:
        """The schedule of a seed. The engine is the seed's, too, unless it is given."""
        dice = random.Random(seed)
        # The first three: what a seed gave before there were more it gives still.
        drawn = dice.choice(tuple(Engine)[:3])
        engine = engine or drawn
        targets = targets_of(engine)
        steps: list[Step] = []
        for _ in range(dice.randint(2, 6)):
            target = dice.choice(sorted(targets))
            fault = dice.choice([one for one in targets[target] if has_clock or one is not Fault.CLOCK])
            at, seconds = dice.uniform(0, FAULT_SECONDS), dice.uniform(0.1, 1.2)
            # One thing at a time of each: what is stopped can't be killed and started besides.
            if all(step.target != target or step.at + step.seconds < at or at + seconds < step.at for step in steps):
                steps.append(Step(at, seconds, fault, target, dice.randrange(2**32)))
        return cls(seed, engine, tuple(sorted(steps, key=lambda step: step.at)))

    @classmethod
    def of_outage(cls, seed: int, engine: Engine | None = None) -> Schedule:
        """Origins that are away for 0 to 60 s, edges that are started anew meanwhile, or cut off when they are back."""
        dice = random.Random(f"outage {seed}")
        drawn = dice.choice((Engine.SQLITE, Engine.POSTGRESQL, Engine.ORIGINS))
        engine = engine or drawn
        longest = dice.choice((2.0, 15.0, LONGEST_OUTAGE_SECONDS))
        away = dice.uniform(0.0, longest)
        steps = [Step(0.2, away, Fault.KILL, "origin", dice.randrange(2**32))]
        if engine is Engine.ORIGINS and dice.random() < 0.7:
            at = dice.uniform(0.0, away)
            steps.append(Step(at, dice.uniform(0.0, longest), Fault.KILL, "origin-2", dice.randrange(2**32)))
        for edge in EDGES:
            if dice.random() < 0.6:
                fault = dice.choice((Fault.KILL, Fault.PAUSE, Fault.STOP))
                at = dice.uniform(0.0, away + 1.0)
                steps.append(Step(at, dice.uniform(0.1, 5.0), fault, edge, dice.randrange(2**32)))
            if dice.random() < 0.4:
                at = dice.uniform(0.0, away + 1.0)
                fault = dice.choice((Fault.CUT, Fault.STALL, Fault.DEAF, Fault.MUTE))
                steps.append(Step(at, dice.uniform(0.1, 5.0), fault, f"{edge}'s link", dice.randrange(2**32)))
        return cls(seed, engine, tuple(sorted(steps, key=lambda step: step.at)), Kind.OUTAGE)

    @classmethod
    def of_frozen(cls, seed: int, engine: Engine | None = None) -> Schedule:
        """Processes that stop moving, one of several or all, for moments or for longer; and junk at the broker."""
        dice = random.Random(f"frozen {seed}")
        drawn = dice.choice((Engine.SQLITE, Engine.POSTGRESQL, Engine.NATS, Engine.NATS, Engine.NATS))
        engine = engine or drawn
        targets = frozen_targets_of(engine)
        frozen = dice.choice(sorted(target for target in targets if Fault.FREEZE in targets[target]))
        chosen = {frozen} | ({"broker's subjects"} if engine is Engine.NATS else set())
        chosen |= set(dice.sample(sorted(targets), dice.randint(1, 3)))
        steps = []
        for target in sorted(chosen):
            longest = LONGEST_FREEZE_SECONDS if dice.random() < 0.4 else 1.2
            at, seconds = dice.uniform(0, FAULT_SECONDS), dice.uniform(0.3, longest)
            steps.append(Step(at, seconds, dice.choice(targets[target]), target, dice.randrange(2**32)))
        return cls(seed, engine, tuple(sorted(steps, key=lambda step: step.at)), Kind.FROZEN)

    @property
    def arguments(self) -> str:
        """What `make test-faults` is told to play it again."""
        more = f" --{self.kind}" if self.kind else ""
        return f"--seed {self.seed} --schedules 1 --engine {self.engine}{more}"

    def __str__(self) -> str:
        return "; ".join([f"seed {self.seed} on {self.engine}", *map(str, self.steps)])
