"""An edge that starts from a snapshot file: without an origin, and going on with one where the file ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote.conftest import BUCKETS, FOLLOW, Origin
from support.process import COMMAND, ServeProcess, until
from support.proxy import Proxy


class FileEdge(ServeProcess):
    """`keywright edge` with whatever it is told, and the pepper."""

    command = "edge"

    def __init__(self, data_dir: Path, origin: Origin, *arguments: str, token: str = "") -> None:
        variables = {"KEYWRIGHT_PEPPER_FILE": str(origin.pepper_file), "KEYWRIGHT_EDGE_TOKEN": token}
        super().__init__(data_dir, *arguments, **variables)


def keywright(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYWRIGHT_")}
    command = [COMMAND, *arguments, "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge.snapshot"


@pytest.fixture
def started(origin: Origin) -> Iterator[list[FileEdge]]:
    edges: list[FileEdge] = []
    yield edges
    for edge in edges:
        edge.kill()


def test_a_file_made_beside_a_running_service_starts_an_edge_that_has_no_origin(
    origin: Origin, file: Path, started: list[FileEdge], tmp_path: Path
) -> None:
    kept, ended = origin.new_key(), origin.new_key()
    origin.revoke(ended)
    made = keywright("snapshot", "export", "--out", str(file), data_dir=origin.data_dir)
    assert (made.returncode, "records written" in made.stderr) == (0, True), made.stderr
    later = origin.new_key()
    verified = keywright("snapshot", "verify", str(file), data_dir=origin.data_dir)
    assert verified.returncode == 0
    shown = dict(line.split(maxsplit=1) for line in verified.stdout.splitlines())
    assert (shown["scope"], shown["buckets"], shown["keys"]) == ("everything/3", "3", "1")

    started.append(edge := FileEdge(tmp_path / "edge", origin, "--snapshot", str(file)).wait_until_ready())
    assert [edge.verdict(key["key"]) for key in (kept, ended, later)] == ["VALID", "UNKNOWN", "UNKNOWN"]
    until(lambda: edge.get("/readyz").get("reason"))
    ready = edge.get("/readyz")
    assert (ready["ready"], ready["synced"], ready["revision"]) == (True, False, int(shown["revision"]))
    assert "no origin or broker" in ready["reason"]

    # Its replica is its own: the file may be gone at the next start.
    edge.kill()
    file.unlink()
    started.append(edge := FileEdge(tmp_path / "edge", origin, "--snapshot", str(file)).wait_until_ready())
    assert edge.verdict(kept["key"]) == "VALID"
    assert "the snapshot file is refused" in edge.output()


def test_an_edge_goes_on_from_the_file_of_its_token_without_a_snapshot_from_the_origin(
    origin: Origin, proxy: Proxy, file: Path, started: list[FileEdge], tmp_path: Path
) -> None:
    key = origin.new_key()
    arguments = ("snapshot", "export", "--out", str(file), "--token-id", origin.token_id)
    assert keywright(*arguments, data_dir=origin.data_dir).returncode == 0
    origin.revoke(key)
    proxy.cut()
    both = ("--snapshot", str(file), "--origin", proxy.url)
    started.append(edge := FileEdge(tmp_path / "edge", origin, *both, token=origin.token).wait_until_ready())
    assert edge.verdict(key["key"]) == "VALID"
    proxy.heal()
    until(lambda: edge.verdict(key["key"]) == "UNKNOWN")
    until(lambda: edge.get("/readyz")["synced"])
    assert "took a snapshot" not in edge.output()

    # The same file once more is older now, and ignored.
    edge.kill()
    proxy.cut()
    started.append(edge := FileEdge(tmp_path / "edge", origin, *both, token=origin.token).wait_until_ready())
    assert edge.verdict(key["key"]) == "UNKNOWN"
    assert "is ignored: the replica is at revision" in edge.output()


def test_an_edge_with_a_file_of_another_scope_takes_its_own_snapshot_as_soon_as_it_can(
    origin: Origin, file: Path, started: list[FileEdge], tmp_path: Path
) -> None:
    assert keywright("snapshot", "export", "--out", str(file), data_dir=origin.data_dir).returncode == 0
    made = origin.call(
        "POST",
        "/v1/accounts/my-account/management-keys",
        json={"permissions": {**FOLLOW, "buckets": {"my-project-preview": "validate"}}},
    )
    both = ("--snapshot", str(file), "--origin", origin.process.url)
    started.append(edge := FileEdge(tmp_path / "edge", origin, *both, token=made["key"]).wait_until_ready())
    key = origin.new_key()
    until(lambda: edge.verdict(key["key"]) == "404")
    assert origin.call("GET", BUCKETS)["total"] == 3


def test_one_flipped_byte_and_neither_verify_nor_an_edge_takes_it(
    origin: Origin, file: Path, started: list[FileEdge], tmp_path: Path
) -> None:
    assert keywright("snapshot", "export", "--out", str(file), data_dir=origin.data_dir).returncode == 0
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    verified = keywright("snapshot", "verify", str(file), data_dir=origin.data_dir)
    assert (verified.returncode, verified.stdout, len(verified.stderr.splitlines())) == (1, "", 1)
    assert verified.stderr.startswith(f"keywright: {file}: the file is damaged")
    started.append(edge := FileEdge(tmp_path / "edge", origin, "--snapshot", str(file)))
    assert edge.process.wait(20) == 1
    assert edge.output().startswith(f"keywright: {file}: the file is damaged")
