"""A full disk: what must wait is refused as such, what takes rights away is still done, and all is well afterwards."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.process import COMMAND, NO_TLS, EdgeProcess, ServeProcess
from support.small_disk import SmallDisk, mounted

ROOT_KEY = "root-key-of-the-tested-deployment"
SIZE, RESERVE = 64 * 1024 * 1024, 4 * 1024 * 1024
CONSUMERS = "/v1/accounts/my-account/key-buckets/my-project-production/consumers"
RESERVED = "keywright_disk_reserve_bytes"


class Caller:
    """Whoever has the root key."""

    def __init__(self, url: str) -> None:
        authorization = {"Authorization": f"Bearer {ROOT_KEY}"}
        self.client = httpx2.Client(base_url=url, headers=authorization, timeout=30, verify=NO_TLS)

    def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        answer = self.client.request(method, path, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def new_consumer(self, name: str, expect: int = 200, **fields: Any) -> Any:
        return self.call("POST", f"{CONSUMERS}?with-api-key=true", expect, json={"name": name, **fields})

    def verdict(self, key: str) -> str:
        return str(self.call("POST", "/v1/validate/my-project-production", json={"key": key})["code"])


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[SmallDisk, Caller]]:
    """A service on a disk of its own, with its reserve."""
    data_dir = tmp_path / "data"
    variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_DISK_RESERVE_MIB": str(RESERVE >> 20)}
    with ServeProcess(data_dir, under=mounted(data_dir, SIZE >> 20), **variables).wait_until_ready(120) as process:
        disk, caller = SmallDisk(process, data_dir), Caller(process.url)
        until(lambda: disk.metric(RESERVED) == RESERVE)
        yield disk, caller
        caller.client.close()


def test_on_a_full_disk_keys_are_revoked_rolled_and_ended_and_nothing_else_is_written(
    served: tuple[SmallDisk, Caller],
) -> None:
    disk, caller = served
    keys = [caller.new_consumer(f"before-{number}")["apiKeys"][0] for number in range(4)]
    assert 0 < disk.metric("keywright_disk_free_bytes") < SIZE
    disk.fill()
    assert disk.metric("keywright_disk_free_bytes") == 0

    refused = caller.new_consumer("after", 507)
    assert (refused["title"], refused["detail"]) == (
        "Insufficient Storage",
        "The disk is full but for what revocations need: only deletions, rolls and ends of keys are done.",
    )
    assert disk.metric('keywright_writes_refused_total{write="record"}') == 1

    caller.call("DELETE", f"{CONSUMERS}/before-0/keys/{keys[0]['id']}", 204)
    caller.call("POST", f"{CONSUMERS}/before-1/roll-key", 204, json={})
    caller.call("PATCH", f"{CONSUMERS}/before-2/keys/{keys[2]['id']}", json={"expiresOn": "2001-01-01T00:00:00Z"})
    caller.call("DELETE", f"{CONSUMERS}/before-3", 204)
    assert [caller.verdict(key["key"]) for key in keys] == ["UNKNOWN", "EXPIRED", "EXPIRED", "UNKNOWN"]
    assert disk.metric(RESERVED) == 0
    # The room that was made is for these alone, and an attempt that is refused takes none of it.
    caller.new_consumer("after", 507)
    caller.call("GET", f"{CONSUMERS}/before-0")
    (logged,) = caller.call("GET", "/v1/accounts/my-account/audit-logs?limit=1")["data"]
    assert (logged["action"], logged["success"]) == ("consumer.delete", True)

    disk.drain()
    caller.new_consumer("after")
    until(lambda: disk.metric(RESERVED) == RESERVE)


@pytest.mark.parametrize("reserve", [RESERVE, 0], ids=["with a reserve", "without"])
def test_an_edge_on_a_full_disk_hears_of_revocations_by_its_reserve_or_says_why_not(
    tmp_path: Path, reserve: int
) -> None:
    data_dir = tmp_path / "edge"
    under = mounted(data_dir, 48)
    with ServeProcess(tmp_path / "origin", KEYWRIGHT_BOOTSTRAP_KEY=ROOT_KEY).wait_until_ready(120) as origin:
        caller = Caller(origin.url)
        token = caller.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": {"feed": True,
            "buckets": {"*": "validate"}}})["key"]  # fmt: skip
        key = caller.new_consumer("leaky")["apiKeys"][0]
        with EdgeProcess(
            data_dir, origin.url, token, tmp_path / "origin" / "pepper.key", under=under,
            KEYWRIGHT_DISK_RESERVE_MIB=str(reserve >> 20),
        ).wait_until_ready(120) as process:  # fmt: skip
            disk, edge = SmallDisk(process, data_dir), Caller(process.url)
            until(lambda: edge.verdict(key["key"]) == "VALID")
            until(lambda: disk.metric(RESERVED) == reserve)
            disk.fill()
            # More than fits into what LMDB has left over, before the change that counts.
            for number in range(3):
                caller.new_consumer(f"many-{number}", apiKeys=[{} for _ in range(1000)])
            caller.call("DELETE", f"{CONSUMERS}/leaky/keys/{key['id']}", 204)
            if not reserve:
                until(lambda: "is full" in edge.client.get("/readyz").json().get("reason", ""))
                assert disk.metric('keywright_writes_refused_total{write="replica"}') >= 1
                assert edge.verdict(key["key"]) == "VALID"
                disk.drain()
            until(lambda: edge.verdict(key["key"]) == "UNKNOWN")
            assert disk.metric(RESERVED) == 0
            edge.client.close()
        caller.client.close()


def test_a_snapshot_file_that_finds_no_room_is_told_and_left_out(tmp_path: Path) -> None:
    place = tmp_path / "small"
    under = mounted(place, 1)
    with ServeProcess(tmp_path / "data", KEYWRIGHT_BOOTSTRAP_KEY=ROOT_KEY).wait_until_ready(120) as process:
        caller = Caller(process.url)
        caller.new_consumer("many", apiKeys=[{} for _ in range(1000)])
        caller.client.close()
        fill = f"head -c 1000000 /dev/zero > {place}/of-others; shift 0; "
        command = [COMMAND, "snapshot", "export", "--data-dir", str(tmp_path / "data"), "--out", str(place / "out")]
        script = f'{fill} "$@"; code=$?; ls -A {place}; exit $code'
        done = subprocess.run([*under, "sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (1, ["of-others"]), done.stderr
    assert "no space left on device" in done.stderr
