"""Files of secrets that others can read are refused at the start, as ssh refuses its keys."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from keywright.policy import SharedReplica
from keywright.runtime import secret_files
from keywright.runtime.secret_files import KeyFileError
from support.ports import free_port
from support.process import run_command

SECRET = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_this_user_alone_is_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pepper.key"
    path.touch(mode)
    path.chmod(mode)
    secret_files.check_private(path, None, tmp_path / "none")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o777])
def test_a_file_of_this_user_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pepper key"
    path.touch()
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"\(mode {mode:04o}\): chmod 600 '.*/pepper key'"):
        secret_files.check_private(path)


def test_a_file_of_somebody_else_is_theirs_to_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pepper.key"
    path.touch()
    path.chmod(0o444)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    secret_files.check_private(path)


def commands(data: Path) -> dict[str, list[str]]:
    port = str(free_port())
    return {
        "serve": ["serve", "--data-dir", str(data), "--port", port],
        "edge": ["edge", "--data-dir", str(data), "--port", port, "--nats", "nats://127.0.0.1:1"],
        "migrate": ["migrate", "--data-dir", str(data)],
        "root key": ["root-key", "list", "--data-dir", str(data)],
        "export": ["snapshot", "export", "--data-dir", str(data), "--out", str(data / "x.snapshot")],
    }


@pytest.mark.parametrize("command", ["serve", "edge", "migrate", "root key", "export"])
def test_no_command_starts_with_a_pepper_that_others_can_read(tmp_path: Path, command: str) -> None:
    pepper = tmp_path / "pepper.key"
    pepper.write_text(SECRET)
    pepper.chmod(0o644)
    done = run_command(*commands(tmp_path)[command])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{pepper} may be read or written by others (mode 0644): chmod 600 {pepper}" in done.stderr


@pytest.mark.parametrize(
    ("variable", "plane"),
    [
        ("KEYWRIGHT_MASTER_KEY_FILE", "serve"),
        ("KEYWRIGHT_IDENTITY_KEY_FILE", "serve"),
        ("KEYWRIGHT_NATS_CREDENTIALS_FILE", "serve"),
        ("KEYWRIGHT_NATS_CREDENTIALS_FILE", "edge"),
        ("KEYWRIGHT_NATS_KEY_FILE", "edge"),
    ],
)
def test_every_file_of_a_secret_is_looked_at(tmp_path: Path, variable: str, plane: str) -> None:
    given = tmp_path / "given"
    given.touch(0o644)
    given.chmod(0o644)
    variables = {variable: str(given), "KEYWRIGHT_PEPPER": SECRET, "KEYWRIGHT_NATS_URL": "nats://127.0.0.1:1"}
    if variable == "KEYWRIGHT_NATS_KEY_FILE":
        variables["KEYWRIGHT_NATS_CERTIFICATE_FILE"] = str(given)
    if variable == "KEYWRIGHT_IDENTITY_KEY_FILE":
        variables["KEYWRIGHT_IDENTITY_TOKEN_SECONDS"] = "60"
    command = commands(tmp_path / "data")[plane]
    done = run_command(*command, **variables)
    assert done.returncode == 1
    assert f"{given} may be read or written by others" in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_app_refuses_it_as_well(tmp_path: Path) -> None:
    (tmp_path / "pepper.key").write_text(SECRET)
    (tmp_path / "pepper.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="by others"):
        SharedReplica(tmp_path).open()
