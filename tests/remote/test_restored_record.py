"""A record that went back to an older state: no edge goes on from the past that was lost, nor mixes it with the new."""

from __future__ import annotations

import asyncio
import base64
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from keywright.domain.keyformat import Digester
from keywright.origin.db.transaction import Database
from keywright.protocol.changes import Change
from remote.conftest import Origin
from support.process import EdgeProcess, until
from support.proxy import Proxy
from support.record import replica_of, seen_by_account, snapshot_of


class Restorable:
    """An origin on SQLite whose record can be taken back to what it was."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._file = origin.data_dir / "keywright.db"
        self._backup = origin.data_dir.with_name("backup.db")
        self.revision = origin.revision
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(self._backup)) as target:
            source.backup(target)

    def restore(self, *, with_replica: bool) -> None:
        """Back to the backup, and start; without its replica the origin itself can't know that anything was lost."""
        assert self.origin.process.stop() == 0
        for file in self.origin.data_dir.glob("keywright.db*"):
            file.unlink()
        shutil.copy(self._backup, self._file)
        if not with_replica:
            shutil.rmtree(self.origin.data_dir / "replica")
        self.origin.restart()


async def record_of(origin: Origin) -> list[Change]:
    database = Database(f"sqlite+aiosqlite:///{origin.data_dir}/keywright.db")
    try:
        return await snapshot_of(database)
    finally:
        await database.close()


def test_an_edge_goes_over_to_the_new_history_of_a_restored_record_also_at_an_equal_revision(
    origin: Origin, proxy: Proxy, new_edge: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    kept, *to_revoke = [origin.new_key() for _ in range(3)]
    backup = Restorable(origin)
    edge = new_edge().wait_until_ready()
    lost = [origin.new_key() for _ in range(2)]
    for revoked, more in zip(to_revoke, (1, 0), strict=True):
        until(lambda lost=lost: edge.verdict(lost[-1]["key"]) == "VALID")  # type: ignore[misc]
        reached = edge.get("/readyz")["revision"]
        proxy.cut()
        backup.restore(with_replica=True)
        origin.revoke(revoked)
        made = []
        while origin.revision < reached + more:
            made.append(origin.new_key())
        assert origin.revision == reached + more
        assert edge.verdict(lost[0]["key"]) == edge.verdict(revoked["key"]) == "VALID"
        proxy.heal()
        until(lambda revoked=revoked: edge.verdict(revoked["key"]) == "UNKNOWN", timeout=30)  # type: ignore[misc]
        assert {edge.verdict(key["key"]) for key in lost} == {"UNKNOWN"}
        assert {edge.verdict(key["key"]) for key in [kept, *made]} == {"VALID"}
        lost = made
    # Revoked in the history that was lost last, and so no more.
    assert edge.verdict(to_revoke[0]["key"]) == "VALID"
    assert "a new snapshot is needed" in edge.output()
    assert "the record went back" in origin.process.output()
    until(lambda: edge.get("/readyz")["synced"])
    assert edge.stop() == origin.process.stop() == 0
    record = asyncio.run(record_of(origin))
    digester = Digester(base64.b64decode(origin.pepper_file.read_text()))
    assert replica_of(tmp_path / "edge", digester) == seen_by_account(record)
    assert replica_of(origin.data_dir, digester) == record


def test_a_restored_record_that_nobody_knows_to_be_one_is_waited_for_until_its_first_change(
    origin: Origin, new_edge: Callable[..., EdgeProcess]
) -> None:
    """Until then it looks like an origin that is behind, to which no edge goes back."""
    kept = origin.new_key()
    backup = Restorable(origin)
    edge = new_edge().wait_until_ready()
    lost = [origin.new_key() for _ in range(3)]
    until(lambda: edge.verdict(lost[-1]["key"]) == "VALID")
    backup.restore(with_replica=False)
    until(lambda: "RecordBehind" in str(edge.get("/readyz").get("reason")), timeout=30)
    assert (edge.verdict(lost[0]["key"]), origin.process.verdict(lost[0]["key"])) == ("VALID", "UNKNOWN")
    made = origin.new_key()
    until(lambda: edge.verdict(made["key"]) == "VALID", timeout=30)
    assert (edge.verdict(lost[0]["key"]), edge.verdict(kept["key"])) == ("UNKNOWN", "VALID")
    assert "the record has another past" in edge.output()
