"""`keywright scan`: which files it looks into, what it tells and what it never shows, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from keywright.cli.app import app

KEY = "kwak_d67b7e241bb948758f415b79aa8ec822_2efb7009"
ROOT = "kwmk_00112233445566778899aabbccddeeff_"
FINGERPRINT = hashlib.sha256(KEY.encode()).hexdigest()
HOOKS = Path(__file__).parents[3] / ".pre-commit-hooks.yaml"


def scan(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["scan", *map(str, arguments)], input=stdin)


def places(result: Result) -> list[tuple[str, int, int, str]]:
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["total"] == len(value["data"])
    return [(Path(row["path"]).name, row["line"], row["column"], row["prefix"]) for row in value["data"]]


def test_keys_are_told_by_place_and_never_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.env"
    file.write_text(f"\n KEY={KEY}\n")
    told = scan(file)
    assert told.exit_code == 1
    assert told.stdout == f"{file}:2:6: api key kwak_****2efb7009 (fingerprint {FINGERPRINT})\n"
    assert told.stderr == "Keys found: 1. Take them out, and roll or revoke those that are live.\n"
    as_json = scan(file, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == {
        "data": [
            {
                "path": str(file), "line": 2, "column": 6, "kind": "api-key", "prefix": "kwak",
                "masked": "****2efb7009", "fingerprint": FINGERPRINT,
            }
        ],
        "total": 1,
        "unreadable": [],
    }  # fmt: skip
    assert all("d67b" not in result.output for result in (told, as_json))


def test_without_a_key_it_is_silent_and_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(KEY[:-1])
    told = scan(tmp_path)
    assert (told.exit_code, told.output) == (0, "")
    assert json.loads(scan(tmp_path, "--json").stdout) == {"data": [], "total": 0, "unreadable": []}


def test_standard_input_is_read_as_bytes() -> None:
    told = scan("-", "--json", stdin=b"\xff\xfe\x00" + KEY.encode("utf-16-be") + b"\x80")
    assert (told.exit_code, places(told)) == (1, [("-", 1, 5, "kwak")])


def test_a_directory_is_read_to_its_end_but_for_git_links_and_what_is_no_file(tmp_path: Path) -> None:
    for name in ("b/deep/x.txt", "a.txt", ".hidden", ".git/config", "b/.git/HEAD", "b/git/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(KEY)
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        told = scan(tmp_path, "--json")
    found = [os.path.relpath(row["path"], tmp_path) for row in json.loads(told.stdout)["data"]]
    assert found == [".hidden", "a.txt", "b/deep/x.txt", "b/git/y"]
    assert json.loads(scan(tmp_path / "link.txt", "--json").stdout)["total"] == 1, "a link that is named is followed"


def test_directories_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Path("key").write_text(KEY)
        os.chdir(here)
        assert json.loads(scan(tmp_path, "--json").stdout)["total"] == 1
    finally:
        os.chdir(here)
        # Before Python 3.13 `shutil.rmtree`, by which pytest cleans up, calls itself for each directory.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_what_can_not_be_read_is_told_and_is_no_0(tmp_path: Path) -> None:
    told = scan(tmp_path / "none-such", tmp_path)
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr == f"keywright: can't read {tmp_path}/none-such: no such file or directory\n"
    (tmp_path / "a").write_text(KEY)
    told = scan(tmp_path / "none-such", tmp_path, "--json")
    assert told.exit_code == 1, "keys count for more"
    assert json.loads(told.stdout)["unreadable"] == [f"{tmp_path}/none-such"]


def test_names_of_any_bytes_are_told_and_steer_no_terminal(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m")
    Path(name).write_text(KEY)
    told = scan(tmp_path)
    assert told.exit_code == 1
    assert told.stdout.startswith(f"{tmp_path}/\\xff\\x1b[31m:1:1: api key ")


def test_prefixes_narrow_it_but_never_to_leave_management_keys_out(tmp_path: Path) -> None:
    body = KEY.partition("_")[2]
    (tmp_path / "a").write_text("\n".join(f"{prefix}_{body}" for prefix in ("kwak", "acme_live", "kwmk", "zpka")))
    told = scan(tmp_path, "--json", "--prefix", "acme_live")
    assert places(told) == [("a", 2, 1, "acme_live"), ("a", 3, 1, "kwmk")]
    assert [row["kind"] for row in json.loads(told.stdout)["data"]] == ["api-key", "management-key"]
    assert len(places(scan(tmp_path, "--json"))) == 4
    assert scan(tmp_path, "--prefix", "No").exit_code == 2


def test_allowed_keys_are_passed_over_by_their_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(KEY)
    allow = tmp_path / "allowed"
    allow.write_text(f"# of the documentation\n\n{FINGERPRINT}  # an example\n")
    assert scan(tmp_path / "a", "--allow", allow).exit_code == 0
    allow.write_text(FINGERPRINT.replace("a", "b"))
    assert scan(tmp_path / "a", "--allow", allow).exit_code == 1
    allow.write_text(KEY)
    refused = scan(tmp_path / "a", "--allow", allow)
    assert refused.exit_code == 2
    assert "is no fingerprint" in " ".join(refused.stderr.replace("│", " ").split())
    assert "d67b" not in refused.output
    assert scan(tmp_path / "a", "--allow", tmp_path / "none").exit_code == 2


def test_no_path_is_a_usage_error() -> None:
    assert scan().exit_code == 2


def test_the_hook_names_a_command_that_there_is_and_stops_a_commit(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text())
    assert hook["entry"].split() == ["keywright", "scan"]
    file = tmp_path / "staged.py"
    file.write_text(f"key = '{KEY}'\n")
    assert scan(*hook.get("args", ()), file).exit_code == 1
    file.write_text("key = read()\n")
    assert scan(*hook.get("args", ()), file).exit_code == 0


@pytest.mark.parametrize("stands", ["committed", "taken out again"])
def test_what_was_ever_committed_is_found_in_the_log(tmp_path: Path, stands: str) -> None:
    def git(*arguments: str) -> bytes:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True).stdout

    git("init", "-q")
    for text in (KEY, *([""] if stands != "committed" else [])):
        (tmp_path / "a.txt").write_text(text + "\n")
        git("add", "a.txt")
        git("commit", "-q", "-m", "change")
    assert scan("-", stdin=git("log", "-p", "--all")).exit_code == 1
