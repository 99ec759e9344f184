"""Owns putting together what counts in one process, and the note by which other programs on the machine count with it.

An application that reads the replica of an edge seals into that edge's spool, under its name; how much there may be,
and whether anybody sends it, stands in the note.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import TYPE_CHECKING

from keywright.edge.replica.replica import UNREADABLE, NotReady
from keywright.edge.usage.counter import UsageCounter
from keywright.edge.usage.counting import Counting
from keywright.edge.usage.sealer import INTERVAL_SECONDS, TICK_SECONDS, Sealer
from keywright.edge.usage.spool import USAGE_DIRECTORY, Spool
from keywright.edge.usage.wishes import Wishes
from keywright.protocol import usage
from keywright.protocol.reports import UNFILLED
from keywright.runtime import atomic_file, tasks
from keywright.runtime.disk import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.edge.identity import Identity
    from keywright.edge.replica.replica import Replica
    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

SPOOL_MIB = 256
"""Unless it is said otherwise."""
_NOTE = "edge.json"


class EdgeUsage:
    """One for each process that judges keys and counts."""

    def __init__(
        self,
        spool: Spool,
        counting: Counting,
        replica: Replica,
        elapsed: Callable[[], float],
        interval_seconds: float,
    ) -> None:
        """Use `of_edge` or `beside_edge`."""
        self._replica = replica
        self.spool = spool
        self.counting = counting
        self.wishes = Wishes(spool.directory)
        self.counter = UsageCounter(lambda bucket: _find_number(replica, bucket))
        self.sealer = Sealer(self.counter, spool, counting, elapsed, _draw, interval_seconds=interval_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Seal what is counted until `stop` is set, and what is left then: by that time nobody validates any more."""
        await self.run_until(stop)
        await asyncio.to_thread(self.sealer.close)

    async def run_until(self, stop: asyncio.Event) -> None:
        """As `run`, where somebody else closes the sealer."""
        while not stop.is_set():
            self.look()
            await asyncio.to_thread(self.sealer.tick)
            await tasks.pause(stop, TICK_SECONDS)

    def look(self) -> None:
        """See whose record the replica holds now, and what is wished of its usage.

        Only where the replica may be read, and is not closed meanwhile.
        """
        self.counting.deployment_id = _find_deployment(self._replica)
        self.counter.recording = self.wishes.find(self.counting.deployment_id)

    @classmethod
    def of_edge(
        cls,
        data_dir: Path,
        identity: Identity,
        replica: Replica,
        clock: Clock,
        *,
        spool_mib: int,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> EdgeUsage | None:
        """Of a process of the edge itself; None with 0 MiB. `clock` is what keys are judged by."""
        directory = data_dir / USAGE_DIRECTORY
        try:
            if not spool_mib:
                (directory / _NOTE).unlink(missing_ok=True)
                return None
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            note = {
                "name": identity.name,
                "region": identity.region,
                "mib": spool_mib,
                "interval_seconds": interval_seconds,
            }
            # Written at each start, so it need not outlast a power cut.
            atomic_file.write(directory / _NOTE, json.dumps(note).encode(), is_durable=False)
        except OSError as error:
            _log.error("usage may not be counted by all who judge keys here: can't use %s: %s", directory, error)
        counting = Counting(identity.instance, identity.name, identity.region, _find_deployment(replica), clock.millis)
        return cls(Spool(directory, spool_mib * MIB), counting, replica, clock.elapsed, interval_seconds)

    @classmethod
    def beside_edge(cls, data_dir: Path, instance: str, replica: Replica, clock: Clock) -> EdgeUsage | None:
        """Of another program that reads the edge's replica; None where the edge counts nothing."""
        directory = data_dir / USAGE_DIRECTORY
        try:
            noted = json.loads((directory / _NOTE).read_bytes())
            name, region, spool_mib = str(noted["name"]), str(noted["region"]), int(noted["mib"])
            interval_seconds = float(noted["interval_seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        if not usage.is_edge(instance, name, region) or spool_mib < 1 or not 1 <= interval_seconds <= INTERVAL_SECONDS:
            return None
        counting = Counting(instance, name, region, _find_deployment(replica), clock.millis)
        return cls(Spool(directory, spool_mib * MIB), counting, replica, clock.elapsed, interval_seconds)


def draw_nonce() -> str:
    return _draw()


def _draw() -> str:
    return secrets.token_hex(16)


def _find_number(replica: Replica, bucket: str) -> int | None:
    """None, too, where the replica can't be read any more: of that others tell."""
    try:
        record = replica.find_bucket(bucket)
    except (NotReady, *UNREADABLE):
        return None
    return None if record is None else record.number


def _find_deployment(replica: Replica) -> str:
    return replica.find_followed_id() or UNFILLED
