"""A full disk: what must wait is refused as such, what takes rights away is still done, and all is well afterwards.

The disk is a small tmpfs in a mount namespace of the service's own, which needs no privileges where user namespaces
may be made.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from support.process import NO_TLS, ServeProcess

ROOT_KEY = "root-key-of-the-tested-deployment"
SIZE_MIB = 64
UNDER = ("unshare", "-Urm", "sh", "-c", f'mount -t tmpfs -o size={SIZE_MIB}m none "$0" && exec "$@"')
BUCKET = "/v1/accounts/my-account/key-buckets/my-project-production"


def _can_mount(place: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNDER, str(place), "true"], capture_output=True, check=False).returncode == 0


def until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class SmallDisk:
    """A service whose data directory is a disk of its own, and what others write there."""

    def __init__(self, served: ServeProcess, data_dir: Path) -> None:
        self.served = served
        # As the service sees it.
        self.path = Path(f"/proc/{served.process.pid}/root") / data_dir.relative_to("/")
        self.client = httpx2.Client(
            base_url=served.url, headers={"Authorization": f"Bearer {ROOT_KEY}"}, timeout=30, verify=NO_TLS
        )

    def call(self, method: str, path: str, expect: int | None = None, **options: object) -> httpx2.Response:
        answer = self.client.request(method, path, **options)  # type: ignore[arg-type]
        assert expect in {None, answer.status_code}, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def verdict(self, key: str) -> str:
        answer = self.call("POST", "/v1/validate/my-project-production", 200, json={"key": key})
        return str(answer.json()["code"])

    def new_consumer(self, name: str, expect: int = 200) -> httpx2.Response:
        return self.call("POST", f"{BUCKET}/consumers?with-api-key=true", expect, json={"name": name})

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.call("GET", "/metrics", 200).text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def fill(self) -> None:
        """To the last byte."""
        for piece in (bytes(1024 * 1024), bytes(4096), b"x"):
            with contextlib.suppress(OSError), (self.path / "of-others").open("ab", buffering=0) as file:
                while file.write(piece):
                    pass

    def drain(self) -> None:
        (self.path / "of-others").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if not _can_mount(data_dir):
        pytest.skip("no user namespace can be made here")
    with ServeProcess(
        data_dir, under=(*UNDER, str(data_dir)), KEYWRIGHT_BOOTSTRAP_KEY=ROOT_KEY, KEYWRIGHT_DISK_RESERVE_MIB="4"
    ).wait_until_ready(120) as served:
        disk = SmallDisk(served, data_dir)
        until(lambda: disk.metric("keywright_disk_reserve_bytes") == 4 * 1024 * 1024)
        yield disk
        disk.client.close()


def test_on_a_full_disk_keys_are_revoked_rolled_and_ended_and_nothing_else_is_written(small_disk: SmallDisk) -> None:
    made = [small_disk.new_consumer(f"before-{number}").json() for number in range(4)]
    keys = [consumer["apiKeys"][0] for consumer in made]
    free = small_disk.metric("keywright_disk_free_bytes")
    assert 0 < free < SIZE_MIB * 1024 * 1024
    small_disk.fill()
    assert small_disk.metric("keywright_disk_free_bytes") == 0

    refused = small_disk.new_consumer("after", 507).json()
    assert (refused["title"], refused["detail"]) == (
        "Insufficient Storage",
        "The disk is full but for what revocations need: only deletions, rolls and ends of keys are done.",
    )
    assert small_disk.metric('keywright_writes_refused_total{write="record"}') == 1

    url = f"{BUCKET}/consumers"
    small_disk.call("DELETE", f"{url}/before-0/keys/{keys[0]['id']}", 204)
    small_disk.call("POST", f"{url}/before-1/roll-key", 204, json={})
    small_disk.call("PATCH", f"{url}/before-2/keys/{keys[2]['id']}", 200, json={"expiresOn": "2001-01-01T00:00:00Z"})
    small_disk.call("DELETE", f"{url}/before-3", 204)
    assert [small_disk.verdict(key["key"]) for key in keys] == ["UNKNOWN", "EXPIRED", "EXPIRED", "UNKNOWN"]
    assert small_disk.metric("keywright_disk_reserve_bytes") == 0
    # The room that was made is for these alone, and the attempt that is refused takes none of it.
    small_disk.new_consumer("after", 507)
    logged = small_disk.call("GET", "/v1/accounts/my-account/audit-logs?limit=1", 200).json()["data"][0]
    assert (logged["action"], logged["success"]) == ("consumer.delete", True)

    small_disk.drain()
    small_disk.new_consumer("after")
    until(lambda: small_disk.metric("keywright_disk_reserve_bytes") == 4 * 1024 * 1024)
