"""What an edge does for as long as it runs about readers that died: their places in the replica are freed."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

from edge.world import MemoryFeed, bucket
from keywright.edge.sync.loop import READER_CHECK_SECONDS
from keywright.runtime.clock import Clock
from support.sync import new_sync_loop

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

READ = """
import lmdb, sys, time
env = lmdb.open(sys.argv[1], max_dbs=5)
with env.begin():
    print("reading", flush=True)
    time.sleep(60)
"""


async def test_the_loop_frees_the_places_of_readers_that_died(replica: Replica) -> None:
    class Hurrying(Clock):
        """Half of what is waited for passes between two looks."""

        def elapsed(self) -> float:
            return next(steps)

    steps = itertools.count(0.0, READER_CHECK_SECONDS / 2)
    sync_loop = new_sync_loop(replica, MemoryFeed(log=[bucket(1, "my-bucket")]), clock=Hurrying(), poll_seconds=0.01)
    reader = subprocess.Popen([sys.executable, "-c", READ, str(replica.path)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    reader.kill()
    reader.communicate()
    assert f"{reader.pid} " in replica._files._env.readers()
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    async with asyncio.timeout(30):
        while f"{reader.pid} " in replica._files._env.readers():
            await asyncio.sleep(0.01)
    stop.set()
    await running
    await sync_loop.close()
