"""What /metrics tells of the replica's files: how large they are, and how long commits to them take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, batch, key
from endpoints.table import VALID, fill
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.edge.app import EdgeApp

PEPPER_CHECK = DIGESTER.pepper_check()


async def scraped(app: EdgeApp) -> dict[str, float]:
    text = (await call(app, "GET", "/metrics")).body.decode()
    return {name: float(value) for name, value in re.findall(r"^(keywright_replica_\w+)(?:\{.*\})? (\S+)$", text, re.M)}


async def test_the_size_of_the_replica_and_its_commits_are_told_also_after_its_files_were_replaced(
    tmp_path: Path,
) -> None:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    empty = await scraped(app)
    assert empty["keywright_replica_records"] == 0
    fill(replica)
    filled = await scraped(app)
    assert filled["keywright_replica_records"] > 5
    assert filled["keywright_replica_size_bytes"] > 0
    commits = filled["keywright_replica_commit_duration_seconds_count"]
    assert commits > empty["keywright_replica_commit_duration_seconds_count"]
    assert filled["keywright_replica_commit_duration_seconds_sum"] > 0
    # What follows nothing is not applied, and so is not committed either.
    replica.apply(batch(3, [key(VALID, 1, 1)]))

    replica.mark_corrupt()
    replica.reopen()
    replaced = await scraped(app)
    assert replaced["keywright_replica_records"] == 0
    assert replaced["keywright_replica_commit_duration_seconds_count"] >= commits
    replica.close()


async def test_a_replica_that_is_closed_is_told_nothing_of_and_all_else_is(tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    replica.close()
    found = await scraped(app)
    assert "keywright_replica_size_bytes" not in found
    assert found["keywright_replica_synced"] == 1
    assert "keywright_replica_commit_duration_seconds_count" in found
