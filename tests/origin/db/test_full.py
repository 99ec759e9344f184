"""No room for the record: each engine's own words for it become one failure, and one answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.service import Service

MANY = [{} for _ in range(1000)]
# PostgreSQL says so with this state and no other (53100, disk_full); a trigger raises what a full disk would.
NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$
"""


async def fill(service: Service, is_full: Callable[[], bool] = lambda: True) -> None:
    """Have the database find no room for many keys: SQLite, of each connection, for as long as `is_full` says so."""
    database = service.app._database
    if database._units is not None:

        @sa.event.listens_for(database._units._engine, "begin")
        def limit_pages(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {1 if is_full() else 1_000_000}")

        return
    async with database.write() as tx:
        await tx.execute(sa.text(NO_ROOM))
        await tx.execute(sa.text("CREATE TRIGGER full_disk BEFORE INSERT ON keys EXECUTE FUNCTION no_room()"))


async def test_no_room_for_the_record_is_507_and_says_so(service: Service) -> None:
    consumer = await service.new_consumer()
    await fill(service)
    url = f"{service.consumers_url}/{consumer['name']}/keys"
    answer = await service.client.post(f"{url}/$bulk", json=MANY)
    assert (answer.status_code, answer.json()["title"]) == (507, "Insufficient Storage")
    assert answer.json()["detail"] == "The disk is full; nothing was changed."
    assert int(answer.headers["retry-after"]) > 0
    assert 'keywright_writes_refused_total{write="record"} 1.0' in (await service.client.get("/metrics")).text
    assert (await service.call("GET", url))["total"] == 0


async def test_a_roll_that_finds_no_room_is_done_with_that_of_the_reserve(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = await embedded.new_consumer()
    url = f"{embedded.consumers_url}/{consumer['name']}"
    await embedded.call("POST", f"{url}/keys/$bulk", json=MANY)
    reserve = Path(embedded.settings.data_dir) / "disk-reserve"
    embedded.app._disk.restore()
    assert reserve.exists()
    # It is made anew every few seconds where there is room, as there is here: not before the test has looked.
    monkeypatch.setattr(embedded.app._disk, "restore", lambda: None)
    await fill(embedded, reserve.exists)
    await embedded.call("POST", f"{url}/roll-key", json={}, expect=204)
    assert not reserve.exists()
    rolled = await embedded.call("GET", f"{url}/keys?limit=2")
    assert [key["expiresOn"] is None for key in rolled["data"]] == [True, False]
    logged = await embedded.call("GET", f"{embedded.account_url}/audit-logs?action=consumer.roll-key")
    assert [len(entry["resources"]) for entry in logged["data"]] == [2]
