"""What /metrics tells: validations by endpoint and verdict, of all workers, and how far the replica is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from edge.apps import Status, new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW
from endpoints.table import BUCKET, VALID, fill
from keywright.edge.http import metrics
from keywright.edge.mirror import MirrorStatus
from keywright.edge.usage.metrics import SpoolSource
from keywright.edge.usage.spool import SpoolStatus
from keywright.edge.validator import Validator
from keywright.runtime.metrics.worker_counts import WorkerCounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from keywright.edge.replica.replica import Replica
    from keywright.runtime.metrics.worker_counts import Counts

PATH = f"/v1/validate/{BUCKET}"
AUTH = f"/v1/forward-auth/{BUCKET}"
ASK = json.dumps({"key": VALID}).encode()
VALID_ROW = b'keywright_validations_total{bucket="%b",endpoint="validate",verdict="VALID"}' % BUCKET.encode()
BEARER = [(b"authorization", b"Bearer " + VALID.encode())]


async def test_metrics_tell_who_reads_no_newer_format(replica: Replica) -> None:
    status = Status()
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), status)
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert "keywright_replica_format_unknown 0.0" in text
    assert "keywright_edge_reads_older_format" not in text
    status.is_format_unknown = True
    app.replica_source.list_old_readers = lambda: ["edge-oslo", "edge-lima"]
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert "keywright_replica_format_unknown 1.0" in text
    for name in ("edge-oslo", "edge-lima"):
        assert f'keywright_edge_reads_older_format{{edge="{name}"}} 1.0' in text


async def test_metrics_tell_what_usage_waits_and_nothing_where_none_is_counted(replica: Replica) -> None:
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), Status())
    assert "keywright_usage_spool" not in (await call(app, "GET", "/metrics")).body.decode()
    found: SpoolStatus | None = SpoolStatus(3, 700, time.time() - 40)

    def find() -> SpoolStatus:
        if found is None:
            raise OSError("the directory is gone")
        return found

    source = SpoolSource(find)
    app.metrics.sources.append(source)
    app.metrics.looks.append(source.look)
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert "keywright_usage_spool_files 3.0" in text
    assert "keywright_usage_spool_bytes 700.0" in text
    age = next(line for line in text.splitlines() if line.startswith("keywright_usage_spool_age_seconds "))
    assert 40 <= float(age.split()[1]) < 60
    found = None
    assert "keywright_usage_spool" not in (await call(app, "GET", "/metrics")).body.decode()


async def test_metrics_count_validations_by_endpoint_and_verdict(replica: Replica) -> None:
    fill(replica)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), Status())
    for _ in range(3):
        await call(app, "POST", PATH, body=ASK)
    await call(app, "POST", PATH, body=b'{"key":"short"}')
    await call(app, "POST", "/v1/validate/nowhere", body=ASK)
    await call(app, "GET", AUTH, headers=BEARER)
    await call(app, "GET", AUTH)
    text = (await call(app, "GET", "/metrics")).body.decode()
    for endpoint, bucket, verdict, count in (
        ("validate", BUCKET, "VALID", 3), ("validate", BUCKET, "MALFORMED", 1), ("validate", "_none", "NO_BUCKET", 1),
        ("forward-auth", BUCKET, "VALID", 1), ("forward-auth", BUCKET, "MISSING", 1),
    ):  # fmt: skip
        assert (
            f'keywright_validations_total{{bucket="{bucket}",endpoint="{endpoint}",verdict="{verdict}"}} {count}.0'
            in text
        )
    assert "keywright_replica_revision 7.0" in text
    assert VALID not in text


async def test_metrics_tell_of_a_haproxy_that_is_behind(replica: Replica) -> None:
    fill(replica)
    status = Status()
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), status)
    assert b"keywright_haproxy" not in (await call(app, "GET", "/metrics")).body
    status.mirror = MirrorStatus(is_synced=False, revision=5, lag_seconds=2.5, pending=30, blocked=2, is_believed=True)
    text = (await call(app, "GET", "/metrics")).body.decode()
    told = {
        line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("keywright_haproxy")
    }
    assert told == {
        "keywright_haproxy_synced": 0.0, "keywright_haproxy_answering": 1.0, "keywright_haproxy_lag_seconds": 2.5,
        "keywright_haproxy_revision": 5.0, "keywright_haproxy_pending_entries": 30.0,
        "keywright_haproxy_blocked_consumers": 2.0,
    }  # fmt: skip


async def test_each_worker_tells_the_sum_of_all_as_soon_as_the_others_have_written(
    replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "WRITE_SECONDS", 0.01)
    fill(replica)
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    workers = [new_app(validator, Status(), worker_counts=WorkerCounts(tmp_path)) for _ in range(3)]
    stop = asyncio.Event()
    running = [asyncio.create_task(worker.run(stop)) for worker in workers]
    for number, worker in enumerate(workers):
        for _ in range(number + 1):
            await call(worker, "POST", PATH, body=ASK)
    sum_of_all = VALID_ROW + b" 6.0"
    async with asyncio.timeout(30):
        for worker in workers:
            while sum_of_all not in (await call(worker, "GET", "/metrics")).body:
                await asyncio.sleep(0.01)
    # And what is counted last, before the end.
    await call(workers[0], "POST", PATH, body=ASK)
    stop.set()
    await asyncio.gather(*running)
    assert sum_of_all.replace(b"6", b"7") in (await call(workers[1], "GET", "/metrics")).body


async def test_what_is_counted_while_an_end_comes_is_written_as_well(
    replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "WRITE_SECONDS", 0.01)
    fill(replica)
    counts = WorkerCounts(tmp_path)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), Status(), worker_counts=counts)
    stop, loop, write = asyncio.Event(), asyncio.get_running_loop(), counts.write

    def write_and_end(count: Callable[[], Counts]) -> None:
        write(count)
        if not stop.is_set():
            asyncio.run_coroutine_threadsafe(call(app, "POST", PATH, body=ASK), loop).result()
            loop.call_soon_threadsafe(stop.set)

    monkeypatch.setattr(counts, "write", write_and_end)
    await app.run(stop)
    others = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), Status(), worker_counts=WorkerCounts(tmp_path))
    said = (await call(others, "GET", "/metrics")).body
    assert VALID_ROW + b" 1.0" in said
