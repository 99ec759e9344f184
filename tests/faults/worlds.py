"""A world for each engine, made when it is first needed. After a schedule that broke a rule a new one takes over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from faults.play import Outcome, play
from faults.schedule import Engine, Kind, Schedule
from faults.world import World
from support import postgres
from support.nats import NatsServer


class Worlds:
    def __init__(self, directory: Path, *, edge_variables: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._edge_variables = edge_variables
        self._worlds: dict[tuple[Engine, int], World] = {}
        self._stacks: dict[tuple[Engine, int], ExitStack] = {}
        """What ends with a world."""
        self._count = 0

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        for which in list(self._worlds):
            self._drop(which)

    def play(self, schedule: Schedule) -> Outcome:
        which = schedule.engine, 2 if schedule.kind is Kind.FROZEN else 1
        is_whole = False
        try:
            outcome = play(self._get(which), schedule)
            is_whole = not outcome.violations
        finally:
            # Nobody plays on in a world that is half mended.
            if not is_whole and which in self._worlds:
                self._drop(which)
        return outcome

    def _get(self, which: tuple[Engine, int]) -> World:
        engine, workers = which
        if which not in self._worlds:
            self._count += 1
            place = self._directory / f"world-{self._count}"
            with ExitStack() as stack:
                database = None if engine is Engine.SQLITE else stack.enter_context(postgres.running())
                broker = stack.enter_context(NatsServer(place / "nats")) if engine is Engine.NATS else None
                world = World(
                    place / "keywright", engine, database, broker, workers=workers, edge_variables=self._edge_variables
                )
                stack.callback(world.close)
                self._worlds[which], self._stacks[which] = world, stack.pop_all()
        return self._worlds[which]

    def _drop(self, which: tuple[Engine, int]) -> None:
        del self._worlds[which]
        self._stacks.pop(which).close()
