"""An edge on NATS whose machine has slept: a time namespace has its count since the start, sleep included, go ahead."""

from __future__ import annotations

from pathlib import Path

from remote.conftest import BUCKET, BUCKETS, Origin
from support.nats import NatsServer
from support.process import BrokerEdgeProcess, until

SLEPT_SECONDS = 7200
SLEPT = ("unshare", "-Ur", "--time", "--boottime", str(SLEPT_SECONDS))
"""CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC from then on, as after a sleep. It needs no root."""


def test_an_edge_at_a_broker_validates_on_a_machine_that_has_slept(nats: NatsServer, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin", "--nats", nats.url)
    try:
        key = origin.new_key()
        limit = {"maxStalenessSeconds": 30, "whenStale": "refuse"}
        origin.call("PATCH", f"{BUCKETS}/{BUCKET}", json=limit)
        with BrokerEdgeProcess(tmp_path / "edge", nats.url, origin.pepper_file, under=SLEPT).wait_until_ready() as edge:
            until(lambda: edge.get("/readyz")["synced"] and edge.get("/readyz")["revision"] == origin.revision)
            # The namespace is as it should be: with that offset nothing but this makes a difference of hours.
            uptime = float(Path(f"/proc/{edge.process.pid}/timens_offsets").read_text().split()[4])
            assert uptime == SLEPT_SECONDS
            assert edge.get("/readyz")["lag_seconds"] < 30
            assert edge.verdict(key["key"]) == "VALID"
    finally:
        origin.client.close()
        origin.process.kill()
