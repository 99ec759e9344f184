"""A replica that is missing or broken when the service starts is filled again from the record, and the log says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.api import VARIABLES, Api
from support.process import ServeProcess

BELLS = shutil.ignore_patterns("bell")
"""Named pipes, of which there is nothing to copy; each start makes its own."""


def remove(replica: Path) -> None:
    shutil.rmtree(replica)


def empty(replica: Path) -> None:
    (replica / "data.mdb").write_bytes(b"")


def fill_with_garbage(replica: Path) -> None:
    (replica / "data.mdb").write_bytes(bytes(range(256)) * 512)


def cut_in_half(replica: Path) -> None:
    content = (replica / "data.mdb").read_bytes()
    (replica / "data.mdb").write_bytes(content[: len(content) // 2])


def overwrite_the_pages(replica: Path) -> None:
    content = (replica / "data.mdb").read_bytes()
    (replica / "data.mdb").write_bytes(content[:8192] + b"\xee" * (len(content) - 8192))


def mark_corrupt(replica: Path) -> None:
    (replica / "condemned").touch()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A deployment that ran: its data directory, keys of it, and a key that was revoked."""
    data = tmp_path_factory.mktemp("kept") / "data"
    with ServeProcess(data, **VARIABLES).wait_until_ready() as served, Api(served) as api:
        keys = [key["key"] for _ in range(3) for key in api.new_consumer(apiKeys=[{}] * 100)["apiKeys"]]
        consumer = api.new_consumer(apiKeys=[{}])
        api.call(
            "DELETE",
            f"/v1/accounts/my-account/key-buckets/my-project-production/consumers/{consumer['name']}",
            expect=204,
        )
        assert served.stop() == 0
    return data, keys, consumer["apiKeys"][0]["key"]


@pytest.mark.parametrize(
    "damage",
    [remove, empty, fill_with_garbage, cut_in_half, overwrite_the_pages, mark_corrupt],
    ids=lambda d: d.__name__,
)
def test_it_is_rebuilt_from_the_record(kept: tuple[Path, list[str], str], tmp_path: Path, damage: object) -> None:
    data, keys, revoked = kept
    copy = tmp_path / "data"
    shutil.copytree(data, copy, ignore=BELLS)
    damage(copy / "replica")  # type: ignore[operator]

    with ServeProcess(copy, "--workers", "2", KEYWRIGHT_LOG_LEVEL="info").wait_until_ready() as served:
        api = Api(served)
        assert {api.verdict(key) for key in keys[::20]} == {"VALID"}
        assert api.verdict(revoked) == "UNKNOWN"
        log = served.output()

    assert "took a snapshot of deployment" in log
    assert "Traceback" not in log
    if damage not in (remove, empty):
        # An empty file is what a replica looks like before its first snapshot.
        assert "is broken" in log
        assert "it is replaced, and filled again" in log


def test_a_sound_replica_is_taken_as_it_is(kept: tuple[Path, list[str], str], tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(kept[0], copy, ignore=BELLS)
    with ServeProcess(copy, KEYWRIGHT_LOG_LEVEL="info").wait_until_ready() as served:
        assert Api(served).verdict(kept[1][0]) == "VALID"
        assert "snapshot" not in served.output()
