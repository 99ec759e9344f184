"""What was acknowledged survives kill -9 of every process at any moment, and nothing is half-made."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from keywright.edge.replica.replica import Replica
from keywright.origin.db.transaction import Database
from keywright.protocol.changes import Change
from keywright.runtime.settings import OriginSettings
from keywright.serve import key_files
from support.api import CONSUMERS_URL, VARIABLES, Api
from support.process import ServeProcess
from support.record import head_of, snapshot_of

pytestmark = pytest.mark.long(60)

ROUNDS = int(os.environ.get("KEYWRIGHT_TEST_KILLS", "4"))
"""For each of the two deployments that are killed again and again."""
CALLERS = 4
BATCH = 7


@dataclass
class Acknowledged:
    """What one caller was told, of one consumer of its own; what it asked for last may or may not have happened."""

    consumer: str
    living: dict[str, str] = field(default_factory=dict)
    """id -> secret of keys that were made and not ended."""
    ended: dict[str, str] = field(default_factory=dict)
    batches: int = 0
    metadata: int = -1
    asked: str = ""
    asked_key: str = ""

    def hammer(self, served: ServeProcess, seed: int) -> None:
        """Change after change, until the service dies."""
        dice = random.Random(seed)
        url = f"{CONSUMERS_URL}/{self.consumer}"
        with Api(served) as api:
            try:
                while True:
                    self._change(api, url, dice.random())
            except httpx2.TransportError:
                return

    def _change(self, api: Api, url: str, dice: float) -> None:
        if dice < 0.4 or not self.living:
            self.asked = "key"
            made = api.call("POST", f"{url}/keys", json={"description": "single"})
            self.living[made["id"]] = made["key"]
        elif dice < 0.55:
            self.asked = "batch"
            drafts = [{"description": f"batch {self.batches}"}] * BATCH
            made = api.call("POST", f"{url}/keys/$bulk", json=drafts)
            self.batches += 1
            self.living |= {key["id"]: key["key"] for key in made["data"]}
        elif dice < 0.8:
            self.asked, self.asked_key = "revoke", next(iter(self.living))
            api.call("DELETE", f"{url}/keys/{self.asked_key}", expect=204)
            self.ended[self.asked_key] = self.living.pop(self.asked_key)
        else:
            self.asked = "metadata"
            api.call("PATCH", url, json={"metadata": {"n": self.metadata + 1}})
            self.metadata += 1
        self.asked = self.asked_key = ""

    def check(self, api: Api) -> None:
        """All that was acknowledged is there; of what was only asked for, all or nothing. Adopts what happened."""
        url = f"{CONSUMERS_URL}/{self.consumer}"
        listed = api.call("GET", f"{url}/keys", params={"key-format": "visible"})["data"]
        found = {key["id"]: key["key"] for key in listed}

        lost = self.living.keys() - found.keys()
        assert lost <= ({self.asked_key} if self.asked == "revoke" else set()), "an acknowledged key is lost"
        assert not self.ended.keys() & found.keys(), "an acknowledged revocation is lost"
        more = [key for key in listed if key["id"] not in self.living]
        expected = {"key": (0, 1), "batch": (0, BATCH)}.get(self.asked, (0,))
        assert len(more) in expected, "something is half-made"
        if self.asked == "batch" and more:
            assert {key["description"] for key in more} == {f"batch {self.batches}"}
            self.batches += 1
        for id in lost:
            self.ended[id] = self.living.pop(id)

        assert {id: secret for id, secret in found.items() if id in self.living} == self.living
        n = api.call("GET", url)["metadata"].get("n", -1)
        assert n in ((self.metadata, self.metadata + 1) if self.asked == "metadata" else (self.metadata,))
        self.metadata = n
        self.living = found
        self.asked = self.asked_key = ""
        self._validate(api, n)

    def _validate(self, api: Api, n: int) -> None:
        # The newest are those that were in danger; of the others a part each time.
        for secret in [*list(self.living.values())[:60], *list(self.living.values())[60::7]]:
            answer = api.validate_anew(secret)
            assert answer["code"] == "VALID"
            assert answer["user"]["data"].get("n", -1) == n
        for secret in list(self.ended.values())[-60:]:
            assert api.verdict(secret) == "UNKNOWN"


def records_of(data: Path) -> tuple[tuple[int | None, list[Change]], tuple[int, list[Change]]]:
    """The revision and the records of the embedded replica, and those of the record."""
    settings = OriginSettings.load(data_dir=data, database_url=f"sqlite:///{data}/keywright.db")

    async def of_record() -> tuple[int, list[Change]]:
        database = Database(settings.database_url)
        try:
            return await head_of(database), await snapshot_of(database)
        finally:
            await database.close()

    replica = Replica.open(settings.replica_dir, key_files.load_digester(settings).pepper_check())
    try:
        return (replica.revision, replica.records()), asyncio.run(of_record())
    finally:
        replica.close()


@pytest.mark.parametrize("deployment", ["one", "other"])
def test_acknowledged_writes_survive_kill_minus_9_of_every_process_at_any_moment(
    tmp_path: Path, deployment: str
) -> None:
    seed = int(os.environ.get("KEYWRIGHT_TEST_SEED", "0")) or time.time_ns() % 1_000_000
    print(f"KEYWRIGHT_TEST_SEED={seed}")
    dice = random.Random(seed)
    data = tmp_path / "data"
    callers: list[Acknowledged] = []

    for number in range(ROUNDS + 1):
        with ServeProcess(data, "--workers", "2", **VARIABLES).wait_until_ready() as served:
            with Api(served) as api:
                for caller in callers:
                    caller.check(api)
                callers = callers or [Acknowledged(api.new_consumer()["name"]) for _ in range(CALLERS)]
            in_replica, in_record = records_of(data)
            assert in_replica == in_record
            assert "Traceback" not in served.output()
            if number == ROUNDS:
                assert served.stop() == 0
                break
            with ThreadPoolExecutor(CALLERS) as pool:
                # Sometimes at once, mostly in the midst of it; the last time late enough for a machine that is slow.
                killer = threading.Timer(dice.uniform(0.02 if number < ROUNDS - 1 else 0.8, 1.2), served.kill)
                running = [pool.submit(caller.hammer, served, dice.randrange(2**32)) for caller in callers]
                killer.start()
                for one in running:
                    one.result()
                killer.join()

    assert sum(len(caller.living) + len(caller.ended) for caller in callers) > ROUNDS
