"""A world for each engine, made when it is first needed. After a schedule that broke a rule a new one takes over."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from faults.play import Outcome, play
from faults.schedule import Engine, Schedule
from faults.world import World
from support import postgres
from support.nats import NatsServer


class Worlds:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._worlds: dict[Engine, World] = {}
        self._stacks: dict[Engine, ExitStack] = {}
        """What ends with a world."""
        self._count = 0

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in list(self._worlds):
            self._drop(engine)

    def play(self, schedule: Schedule) -> Outcome:
        is_whole = False
        try:
            outcome = play(self._get(schedule.engine), schedule)
            is_whole = not outcome.violations
        finally:
            # Nobody plays on in a world that is half mended.
            if not is_whole and schedule.engine in self._worlds:
                self._drop(schedule.engine)
        return outcome

    def _get(self, engine: Engine) -> World:
        if engine not in self._worlds:
            self._count += 1
            place = self._directory / f"world-{self._count}"
            with ExitStack() as stack:
                database = None if engine is Engine.SQLITE else stack.enter_context(postgres.running())
                broker = stack.enter_context(NatsServer(place / "nats")) if engine is Engine.NATS else None
                world = World(place / "keywright", engine, database, broker)
                stack.callback(world.close)
                self._worlds[engine], self._stacks[engine] = world, stack.pop_all()
        return self._worlds[engine]

    def _drop(self, engine: Engine) -> None:
        del self._worlds[engine]
        self._stacks.pop(engine).close()
