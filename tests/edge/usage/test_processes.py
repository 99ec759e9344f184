"""Whoever judges keys counts: an edge at a broker, an application beside it, one of its own, and the origin's edge."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keywright.policy import EmbeddedReplica, SharedReplica
from support import counted_usage
from support import origin as origins
from support.api import BUCKET
from support.nats import NatsServer
from support.process import NO_TLS, BrokerEdgeProcess, until

TIMES = 5
APP = f"""
import os, signal, sys
from keywright.policy import EmbeddedReplica
origin, token, directory, pepper, key = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
source = EmbeddedReplica.from_origin(origin, token=token, directory=directory, name="app", pepper_file=pepper)
assert [source.validate(key, {BUCKET!r}).verdict for _ in range({TIMES})] == ["VALID"] * {TIMES}
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.timeout(120)
def test_use_is_counted_by_each_kind_of_process_and_gets_to_the_origin(tmp_path: Path, nats: NatsServer) -> None:
    data_dir = tmp_path / "origin"
    with (
        origins.running(data_dir, "--nats", nats.url) as origin,
        BrokerEdgeProcess(
            tmp_path / "edge", nats.url, origin.pepper_file, KEYWRIGHT_USAGE_INTERVAL_SECONDS="1"
        ).wait_until_ready() as edge,
    ):
        consumer = origin.api.new_consumer()["name"]
        keys = {who: origin.api.new_key(consumer) for who in ("edge", "shared", "embedded", "origin")}
        until(lambda: edge.verdict(keys["origin"]["key"]) == "VALID")
        asked: dict[str, Callable[[str], str]] = {"edge": edge.verdict, "origin": origin.served.verdict}
        shared = SharedReplica(tmp_path / "edge", pepper_file=origin.pepper_file)
        embedded = EmbeddedReplica.from_origin(
            origin.url, token=origin.token, directory=tmp_path / "app", name="app", pepper_file=origin.pepper_file
        )
        try:
            for who, source in (("shared", shared), ("embedded", embedded)):
                asked[who] = verdict_of(source)
                until(lambda who=who: asked[who](keys["origin"]["key"]) == "VALID")
            for who, ask in asked.items():
                assert [ask(keys[who]["key"]) for _ in range(TIMES)] == ["VALID"] * TIMES
            # The first use of a key in an hour is not waited for; of those told so far there is one each.
            found = read_until(data_dir, lambda totals: all(totals[keys[who]["id"], "VALID"] for who in asked))
            assert found[keys["edge"]["id"], "VALID"] == TIMES or found[keys["embedded"]["id"], "VALID"] == 1
        finally:
            shared.close()
            embedded.close()
        # What was counted last got to the origin with its end.
        totals = counted_usage.read(f"sqlite+aiosqlite:///{data_dir}/keywright.db").totals
        assert totals[keys["embedded"]["id"], "VALID"] == TIMES
        # One that nobody closes, in an application that ends as its server has it.
        app = [sys.executable, "-c", APP, origin.url, origin.token, str(tmp_path / "app"), str(origin.pepper_file)]
        subprocess.run([*app, keys["embedded"]["key"]], check=True, timeout=60)
        found = counted_usage.read(f"sqlite+aiosqlite:///{data_dir}/keywright.db")
        assert found.totals[keys["embedded"]["id"], "VALID"] == 2 * TIMES
        assert found.reasons == []
        told = ("edge", "shared")
        read_until(data_dir, lambda totals: all(totals[keys[who]["id"], "VALID"] == TIMES for who in told))
        spool = httpx2.get(f"{edge.url}/metrics", verify=NO_TLS, timeout=5).text
        assert "keywright_usage_spool_files 0.0" in spool
        assert "keywright_usage_spool_bytes 0.0" in spool
        assert "keywright_usage_spool_age_seconds 0.0" in spool


def verdict_of(source: Any) -> Callable[[str], str]:
    return lambda key: str(source.validate(key, BUCKET).verdict)


def read_until(data_dir: Path, is_so: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 40
    while True:
        totals = counted_usage.read(f"sqlite+aiosqlite:///{data_dir}/keywright.db").totals
        if is_so(totals):
            return totals
        assert time.monotonic() < deadline, totals
        time.sleep(0.5)
