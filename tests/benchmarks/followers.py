"""Many followers in one process: real feeds over HTTP into real replicas, without endpoints.

Run as `python followers.py ORIGIN_PORT ORIGIN_DATA_DIR DIRECTORY COUNT`; prints `in step` once all of them are.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from keywright.domain.keyformat import Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.wiring import new_http_feed
from keywright.runtime import secret_files
from keywright.runtime.clock import Clock
from support.sync import new_sync_loop

MAP_SIZE = 1024**3


async def main(port: str, data_dir: Path, directory: Path, count: int) -> None:
    digester = secret_files.load_digester(None, data_dir / "pepper.key")
    token = Secret(os.environ["KEYWRIGHT_EDGE_TOKEN"])
    followers = []
    for number in range(count):
        replica = Replica.open(directory / str(number), digester.pepper_check(), map_size=MAP_SIZE)
        feed = new_http_feed(f"http://127.0.0.1:{port}", token, digester, Clock(), edge_name=f"edge-{number}")
        followers.append(new_sync_loop(replica, feed))
    running = [asyncio.create_task(one.run(asyncio.Event())) for one in followers]
    while not all(one.is_synced for one in followers):
        await asyncio.sleep(0.05)
    print("in step", flush=True)
    await asyncio.gather(*running)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
