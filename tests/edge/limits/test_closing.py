"""Whoever counted lets go of the files at its end: a process that opens and closes many has no more of them open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket
from gateways.conftest import PEPPER
from keywright.domain.verdict import Lack
from keywright.edge.limits.rows import ID_BYTES
from keywright.edge.limits.shard import Asked
from keywright.edge.limits.table import LimitTable
from keywright.edge.replica.replica import Replica
from keywright.policy import SharedReplica
from support import service as services
from support.clock import FakeClock
from support.shares import limit_id
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def open_in(directory: Path) -> int:
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith(str(directory))
        except FileNotFoundError:
            continue
    return found


def test_a_closed_table_counts_on_where_it_was(tmp_path: Path) -> None:
    clock, asked = FakeClock(), [Asked(limit_id(1), 2, 60, False)]
    table = LimitTable(tmp_path, clock.elapsed, boot_id="x")
    assert table.take(asked)[0]
    table.close()
    assert open_in(tmp_path) == 0
    assert [table.take(asked)[0] for _ in range(2)] == [True, False]
    table.close()


async def test_a_worker_that_has_stopped_holds_no_files_of_limits_and_quotas(
    migrated_file: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / migrated_file.name).write_bytes(migrated_file.read_bytes())
    settings = services.settings_for(data_dir)
    async with services.running(settings) as service:
        quota = {"name": "calls", "limit": 1, "period": "none"}
        limit = {"name": "burst", "limit": 100, "windowSeconds": 60, "scope": "edge"}
        owner = await service.new_consumer(quotas=[quota], rateLimits=[limit])
        made = await service.new_key(owner["name"])
        assert [await service.verdict(made["key"]) for _ in range(2)] == ["VALID", "QUOTA_EXCEEDED"]
        await until(lambda: open_in(settings.replica_dir / "limits") > 0)
        assert open_in(settings.replica_dir / "quotas") > 0
    assert open_in(settings.replica_dir) == 0


def test_a_source_that_is_closed_holds_no_files(tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "replica", DIGESTER.pepper_check())
    replica.load("dep_1", PEPPER_CHECK, at(0), [bucket(1, "my-bucket")])
    replica.close()
    source = SharedReplica(tmp_path, pepper=PEPPER, ready_seconds=60)
    source.takers.table.set_fallback_share(1.0)
    assert open_in(tmp_path / "replica" / "limits") > 0
    assert source.takers.quotas is not None
    assert source.takers.quotas.has_changed(Lack(bytes(ID_BYTES), (0, 0, 0), is_heard=False)) is False
    assert open_in(tmp_path / "replica" / "quotas") > 0
    source.open()
    source.close()
    assert open_in(tmp_path) == 0
