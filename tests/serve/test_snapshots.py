"""`keywright snapshot export` writes what the record holds, whole or not at all, and destroys nothing."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Secret
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica
from keywright.edge.sync import snapshot_file_loader
from keywright.origin.db.transaction import Database
from keywright.protocol.changes import BucketPut, KeyPut
from keywright.runtime.clock import Clock
from keywright.runtime.server import StartError
from keywright.serve import key_files, snapshots
from support.record import head_of, snapshot_of
from support.service import Service, settings_for

OTHER_PEPPER = Secret(base64.b64encode(bytes(32)).decode())


async def export(service: Service, path: Path, token_id: str | None = None) -> int:
    return await snapshots.export(service.settings, path, token_id, lambda _: None)


async def test_a_file_for_edges_of_before_lacks_what_they_can_not_judge(embedded: Service, tmp_path: Path) -> None:
    consumer = await embedded.new_consumer()
    key, plain = [await embedded.new_key(consumer["name"]) for _ in range(2)]
    url = f"{embedded.consumers_url}/{consumer['name']}/keys/{key['id']}"
    await embedded.call("PATCH", url, json={"enabled": False})
    digester = key_files.load_digester(embedded.settings)
    newest, older = tmp_path / "newest", tmp_path / "older"
    await export(embedded, newest)
    await snapshots.export(embedded.settings, older, None, lambda _: None, feed_format=2)
    assert newest.read_bytes().startswith(b"keywright snapshot 2 ")
    assert older.read_bytes().startswith(b"keywright snapshot 1 ")
    found = [snapshot_file_loader.examine(path, digester) for path in (newest, older)]
    assert [one.with_powers for one in found] == [1, 0]
    assert [one.keys for one in found] == [2, 1]
    assert [one.head.scope for one in found] == ["everything/3", "everything"]
    replica = loaded(embedded, older, tmp_path / "edge")
    assert [put.key_id for put in replica.records() if isinstance(put, KeyPut)][-1:] == [plain["id"]]
    replica.close()


def loaded(service: Service, file: Path, at: Path) -> Replica:
    """A new edge's replica, from the file alone."""
    digester = key_files.load_digester(service.settings)
    replica = Replica.open(at, digester.pepper_check())
    snapshot_file_loader.load(file, digester, replica, SyncClock(None, Clock()), OriginClock(None, Clock()))
    return replica


async def test_an_edge_filled_from_the_file_holds_what_the_record_held(service: Service, tmp_path: Path) -> None:
    consumer = await service.new_consumer(metadata={"plan": "gold"})
    key = await service.new_key(consumer["name"])
    kept = await service.new_key(consumer["name"])
    await service.call("DELETE", f"{service.consumers_url}/{consumer['name']}/keys/{key['id']}", expect=204)
    file = tmp_path / "edge.snapshot"

    count = await export(service, file)

    database = Database(service.settings.database_url)
    replica = loaded(service, file, tmp_path / "edge")
    try:
        assert replica.records() == await snapshot_of(database)
        assert (replica.revision, len(replica.records())) == (await head_of(database), count)
    finally:
        replica.close()
        await database.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in (kept["key"], key["key"]):
        assert secret.encode() not in file.read_bytes()


async def test_a_file_for_a_token_holds_what_that_may_see_and_is_of_its_scope(
    embedded: Service, tmp_path: Path
) -> None:
    consumer = await embedded.new_consumer()
    await embedded.new_key(consumer["name"])
    preview = {"account": "none", "buckets": {"my-project-preview": "validate"}, "feed": True}
    token = await embedded.call("POST", f"{embedded.account_url}/management-keys", json={"permissions": preview})
    await export(embedded, tmp_path / "preview", token["id"])
    replica = loaded(embedded, tmp_path / "preview", tmp_path / "edge")
    records = replica.records()
    replica.close()
    assert {put.name for put in records if isinstance(put, BucketPut)} == {"_system", "my-project-preview"}
    system = next(put.number for put in records if isinstance(put, BucketPut) and put.name == "_system")
    assert {put.bucket_number for put in records if isinstance(put, KeyPut)} == {system}


async def test_a_token_that_is_none_or_may_not_follow_is_refused_by_name(embedded: Service, tmp_path: Path) -> None:
    weak = await embedded.call("POST", f"{embedded.account_url}/management-keys", json={"permissions": {}})
    for token_id, said in (("key_none", "no management key"), (weak["id"], "lack feed")):
        with pytest.raises(StartError, match=said):
            await export(embedded, tmp_path / "file", token_id)
    assert not (tmp_path / "file").exists()


async def test_an_earlier_file_is_replaced_only_by_a_whole_one(embedded: Service, tmp_path: Path) -> None:
    file = tmp_path / "files" / "edge.snapshot"
    file.parent.mkdir()
    await export(embedded, file)
    earlier = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StartError, match=r"can't write .*: no space left on device"):
        await snapshots.export(embedded.settings, file, None, full)
    assert file.read_bytes() == earlier
    await embedded.new_consumer()
    await export(embedded, file)
    assert file.read_bytes() != earlier
    assert [path.name for path in file.parent.iterdir()] == ["edge.snapshot"]


async def test_a_file_of_another_kind_is_not_overwritten(embedded: Service, tmp_path: Path) -> None:
    pepper = embedded.settings.pepper_file
    before = pepper.read_text()
    with pytest.raises(StartError, match="is no snapshot file"):
        await export(embedded, pepper)
    assert pepper.read_text() == before
    for place, said in ((tmp_path, "is a directory"), (tmp_path / "none" / "file", "there is no directory")):
        with pytest.raises(StartError, match=said):
            await export(embedded, place)


async def test_another_pepper_makes_no_file_that_no_edge_would_take(embedded: Service, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="pepper"):
        await snapshots.export(replace(embedded.settings, pepper=OTHER_PEPPER), tmp_path / "f", None, lambda _: None)


async def test_where_there_is_no_deployment_that_is_said(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, pepper=OTHER_PEPPER)
    with pytest.raises(StartError, match="no deployment here yet"):
        await snapshots.export(settings, tmp_path / "file", None, lambda _: None)


async def test_the_master_key_is_not_needed(embedded: Service, tmp_path: Path) -> None:
    embedded.settings.master_key_file.unlink()
    assert await export(embedded, tmp_path / "file") > 0
