"""Quotas are never overspent, and lose only what deaths hide, while origins and edges are killed, and answers lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import sqlalchemy as sa

from faults.leasing import STEP, LeasingEdge, Tally, now
from keywright.domain.limits import Period, Quota
from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.protocol.leases import LeaseSigner
from keywright.runtime.secret_files import load_digester
from support.api import ROOT_KEY, VARIABLES, Api
from support.postgres import Postgres, free_port
from support.process import ServeProcess
from support.quotas import set_quotas

LIMIT = 400
SECONDS = 6.0
EDGES = 4


class World:
    """Origins on one database, each of which may be killed; SQLite has one."""

    def __init__(self, base: Path, postgres: Postgres | None) -> None:
        self._url = f"sqlite:///{base}/origin/keywright.db" if postgres is None else postgres.new_database()
        self._data = base / "origin"
        self._ports = [free_port() for _ in range(1 if postgres is None else 2)]
        self.origins = [self._start(self._ports[0]).wait_until_ready(120)]
        self.origins += [self._start(port).wait_until_ready(120) for port in self._ports[1:]]
        self.api = Api(self.origins[0])
        self.urls = [origin.url for origin in self.origins]

    def _start(self, port: int) -> ServeProcess:
        return ServeProcess(self._data, port=port, **VARIABLES, KEYWRIGHT_DATABASE_URL=self._url)

    async def kill_now_and_then(self, chance: random.Random, until: float) -> int:
        kills = 0
        while now() < until:
            await asyncio.sleep(0.3 + chance.random())
            place = chance.randrange(len(self.origins))
            self.origins[place].kill()
            kills += 1
            await asyncio.sleep(chance.random() * 0.3)
            self.origins[place] = self._start(self._ports[place])
            await asyncio.to_thread(self.origins[place].wait_until_ready, 120)
        return kills

    async def make_consumer(self) -> tuple[int, str]:
        """Its number, and the id of the deployment."""
        made = self.api.call("POST", "/v1/accounts/my-account/key-buckets/my-project-production/consumers",
                             json={"name": "spender"})  # fmt: skip
        database = Database(self._url.replace("sqlite:", "sqlite+aiosqlite:"))
        try:
            await set_quotas(database, made["name"], [Quota("calls", LIMIT, Period.NONE)])
            async with database.read() as tx:
                number = await tx.scalar(
                    sa.select(tables.consumers.c.number).where(tables.consumers.c.id == made["id"])
                )
                return number, await tx.scalar(sa.select(tables.deployment.c.id))
        finally:
            await database.close()

    def signer(self) -> LeaseSigner:
        return LeaseSigner(load_digester(None, self._data / "pepper.key"))

    def stop(self) -> None:
        self.api.close()
        for origin in self.origins:
            origin.kill()


@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 1), ("postgresql", 2)])
async def test_no_unit_is_served_twice_and_only_deaths_hide_some(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str, seed: int
) -> None:
    chance, tally = random.Random(seed), Tally()
    world = World(tmp_path, request.getfixturevalue("postgres") if engine == "postgresql" else None)
    try:
        number, deployment_id = await world.make_consumer()
        edges = [
            LeasingEdge(
                world.urls, ROOT_KEY, world.signer(), deployment_id, number, tally, random.Random(f"{seed}-{n}")
            )
            for n in range(EDGES)
        ]
        until = now() + SECONDS
        killing = asyncio.create_task(world.kill_now_and_then(chance, until))
        await asyncio.gather(*(edge.live(until) for edge in edges))
        kills = await killing

        # All come back, and give back what they had; whoever asks last is lent the rest, and spends it.
        for edge in edges:
            await come_back(edge)
        while edges[0].held or await edges[0].ask(need=2 * LIMIT, seconds=30):
            if not await edges[0].request(1):
                break
        await come_back(edges[0])
        said = f"{tally}, {kills} kills of origins"
        print(said)
        assert tally.served == LIMIT - tally.hidden, said
        assert tally.hidden <= STEP * tally.kills, said
        assert await look(world) == (LIMIT, 0), said
        assert min(kills, tally.kills, tally.unheard) > 0, said
    finally:
        for edge in edges:
            await edge.client.aclose()
        world.stop()


async def come_back(edge: LeasingEdge) -> None:
    """After a last kill; what it had is accounted for, and what it never heard of is given back."""
    edge.die()
    while not await edge.ask(seconds=30):
        pass


async def look(world: World) -> tuple[int, int]:
    """What is spent and lent of the quota, as the API shows it."""
    url = "/v1/accounts/my-account/key-buckets/my-project-production/consumers/spender/quotas"
    (calls,) = (await asyncio.to_thread(world.api.call, "GET", url))["data"]
    return calls["spent"], calls["lent"]
