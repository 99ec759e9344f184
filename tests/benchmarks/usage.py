"""What an hour of usage costs an origin on PostgreSQL: 100 million validations, as edges seal them into batches.

The batches are the product's own, drawn at random moments: each edge merges what it counts for a minute, or for five
where more than 100,000 keys are in use, and the origin appends and folds them as it always does. What the machine can't
hold is scaled down, and told: a part of the keys or of the edges, each with as many validations. The work is in
proportion to rows that come in, but for what is kept, which is in proportion to keys.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from plan import Plan, progress
from report import Table, number

from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.origin.usage.counts import AT_ONCE, FIRST_USES, PARTS
from keywright.origin.usage.folding import Folder
from keywright.origin.usage.intake.first_uses import FirstUses
from keywright.origin.usage.store import Source, append
from keywright.protocol.usage import HOUR_MILLIS, MAX_ROWS, UsageRow
from support import postgres, record
from support.postgres import Postgres

VALIDATIONS = 100_000_000
TICKS_A_SECOND = 100
HOUR = int(time.time() * 1000) // HOUR_MILLIS - 2


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many keys in use at each of so many edges; one in so many of each is measured."""

    keys: int
    edges: int
    keys_part: int
    edges_part: int

    @property
    def seals(self) -> int:
        """Times an hour that an edge seals what it has counted."""
        return 12 if self.keys > 100_000 else 60


FLEETS = (Fleet(1_000_000, 4, 20, 1), Fleet(10_000, 100, 1, 25))


def run(plan: Plan) -> list[Table]:
    with postgres.running() as server:
        return [asyncio.run(_run(plan, server))]


async def _run(plan: Plan, server: Postgres) -> Table:
    columns = (
        "rows taken in an hour", "rows kept", "origin CPU s", "PostgreSQL CPU s", "WAL MB", "table bytes a row",
        "times real time, one core",
    )  # fmt: skip
    table = Table("an hour of usage, 100 million validations, PostgreSQL", ("keys x edges", *columns))
    for planned in FLEETS:
        fleet = planned
        if plan.seconds <= 1:
            fleet = replace(fleet, keys_part=fleet.keys // 500, edges_part=fleet.edges // 2)
        keys, edges = fleet.keys // fleet.keys_part, fleet.edges // fleet.edges_part
        progress(f"usage: {keys:,} of {fleet.keys:,} keys at {edges} of {fleet.edges} edges")
        url = server.new_database()
        record.migrate(url)
        cells = await _measure(fleet, Database(url), server, keys, edges)
        table.add(f"{fleet.keys:,} x {fleet.edges} (measured: {keys:,} x {edges})", *cells)
    return table


async def _measure(fleet: Fleet, database: Database, server: Postgres, keys: int, edges: int) -> tuple[str, ...]:
    scale = fleet.keys_part * fleet.edges_part
    each = VALIDATIONS / fleet.keys / fleet.edges / fleet.seals
    draw, rows = random.Random(1), 0
    first_uses = FirstUses()
    folder = Folder(database, hours_days=14, days_kept=395)
    wal_before, server_before = await _wal(database), _server_seconds(server)
    cpu_began, cpu_drawing = time.process_time(), 0.0
    for seal in range(fleet.seals):
        for edge in range(edges):
            drawn_at = time.process_time()
            batch = _batch(draw, keys, each, seal, fleet.seals)
            cpu_drawing += time.process_time() - drawn_at
            source = Source(f"instance-of-edge-{edge:04}", f"edge-{edge}", "eu")
            for first in range(0, len(batch), MAX_ROWS):
                async with database.write() as tx:
                    await append(tx, batch[first : first + MAX_ROWS], source, first_uses)
            rows += len(batch)
    for part in (FIRST_USES, AT_ONCE, *range(PARTS)):
        while await folder.fold(part):
            pass
    # Drawing is no work of an origin.
    spent = time.process_time() - cpu_began - cpu_drawing
    wal, cpu = await _wal(database) - wal_before, _server_seconds(server) - server_before
    kept, size = await _size(database)
    await database.close()
    return (
        f"{rows * scale / 1e6:.0f} million", f"{kept * fleet.keys_part:,}", number(spent * scale), number(cpu * scale),
        number(wal * scale / 1e6), number(size / max(kept, 1)), number(3600 / (spent * scale)),
    )  # fmt: skip


def _batch(draw: random.Random, keys: int, each: float, seal: int, seals: int) -> list[UsageRow]:
    """What an edge has counted of so many keys since it sealed last, with `each` validations of a key on average."""
    at, found = HOUR_MILLIS * seal // seals, []
    for key in range(keys):
        # As many as a Poisson process has, drawn from its normal neighbour where that is near enough.
        total = round(draw.gauss(each, each**0.5)) if each > 20 else _poisson(draw, each)
        if total > 0:
            row = (HOUR, 1, key + 1, f"key_{key:024}", "VALID", None, None, None, total, at, at + 1000, None)
            found.append(UsageRow._make(row))
    return found


def _poisson(draw: random.Random, mean: float) -> int:
    count, left = 0, draw.expovariate(1.0)
    while left < mean:
        count += 1
        left += draw.expovariate(1.0)
    return count


async def _wal(database: Database) -> int:
    async with database.read() as tx:
        return int(await tx.scalar(sa.text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")))


async def _size(database: Database) -> tuple[int, int]:
    """Rows of hours, and bytes of them and of last use, with all indexes."""
    async with database.read() as tx:
        rows: int = await tx.scalar(sa.select(sa.func.count()).select_from(tables.usage_hours))
        size = await tx.scalar(
            sa.text("SELECT pg_total_relation_size('usage_hours') + pg_total_relation_size('last_used')")
        )
    return rows, int(size)


def _server_seconds(server: Postgres) -> float:
    """CPU time of the server and of all its processes, those that ended among them."""
    assert server.process is not None
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == server.process.pid or stat.parent.name == str(server.process.pid):
            own = int(fields[11]) + int(fields[12])
            # Of the parent also what its children spent that have ended.
            ended = int(fields[13]) + int(fields[14]) if stat.parent.name == str(server.process.pid) else 0
            ticks += own + ended
    return ticks / TICKS_A_SECOND
