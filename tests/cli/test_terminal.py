"""On a real terminal: tables that fit, whole ids and secrets, names that can't steer the terminal, and questions."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import DeveloperApi

BUCKETS = "/v1/accounts/my-account/key-buckets"
SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
CTRL_C = b"\x03"
TIMES = {"createdOn": "2026-11-23T10:26:05.123Z", "updatedOn": "2026-11-23T10:26:05.123Z"}


def take_terminal() -> None:
    # A shell has what it runs in the background ignore Ctrl-C, and so all that is started by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def run_at_terminal(api: DeveloperApi, *arguments: str, columns: int = 80, typed: bytes = b"") -> tuple[int, str]:
    """Run the command line on a new pseudo-terminal and answer its question; its exit code, and all that appeared."""
    controller, terminal = pty.openpty()
    environment = {
        "PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": str(columns), "LANG": "C.UTF-8",
        "KEYWRIGHT_URL": api.url, "KEYWRIGHT_MANAGEMENT_KEY": SECRET, "KEYWRIGHT_BUCKET": "my-bucket",
    }  # fmt: skip
    code = "from keywright.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment,
        # Of its own: what is typed there is for this process alone, Ctrl-C included.
        start_new_session=True, preexec_fn=take_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    # Linux answers EIO when the other side is closed.
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
            if typed and shown.endswith(b": "):
                os.write(controller, typed)
                # One that comes in the moment before Python reads is shown, and heeded at the next key alone.
                while typed == CTRL_C and not has_ended(process, seconds=5):
                    os.write(controller, typed)
                typed = b""
    except OSError:
        pass
    os.close(controller)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def has_ended(process: subprocess.Popen[bytes], *, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def page_of(*rows: dict[str, object]) -> dict[str, object]:
    return {"data": list(rows), "limit": 1000, "offset": 0, "total": len(rows)}


def key(**fields: object) -> dict[str, object]:
    return {
        "id": "key_0HfT6wtn1uyYNkLjbVNQEVzK",
        "key": SECRET,
        "description": None,
        "expiresOn": None,
        **TIMES,
        **fields,
    }


@pytest.mark.parametrize("columns", [40, 80, 100, 160])
def test_ids_and_secrets_are_whole_at_every_width(developer_api: DeveloperApi, columns: int) -> None:
    description = "A long description of what this key is for and who has it"
    developer_api.answer("GET", f"{BUCKETS}/my-bucket/consumers/acme/keys", page_of(key(description=description)))

    exit_code, shown = run_at_terminal(developer_api, "keys", "list", "acme", "--show", columns=columns)

    assert exit_code == 0
    assert "key_0HfT6wtn1uyYNkLjbVNQEVzK" in shown
    assert SECRET in shown


def test_a_table_is_as_wide_as_the_terminal_at_most(developer_api: DeveloperApi) -> None:
    consumer = {"id": "csmr_1", "name": "acme", "description": "word " * 30, "tags": {"plan": "gold"}, **TIMES}
    developer_api.answer("GET", f"{BUCKETS}/my-bucket/consumers", page_of(consumer))

    _, shown = run_at_terminal(developer_api, "consumers", "list")

    assert without_styles(shown).split()[:4] == ["NAME", "DESCRIPTION", "TAGS", "STATE"]
    assert max(len(line) for line in without_styles(shown).splitlines()) <= 80


def test_a_name_in_square_brackets_is_no_markup_and_an_escape_is_shown_as_one(developer_api: DeveloperApi) -> None:
    consumer = {"id": "csmr_1", "name": "[bold]", "description": "\x1b]0;owned\x07\u202e", "tags": {}, **TIMES}
    developer_api.answer("GET", f"{BUCKETS}/my-bucket/consumers", page_of(consumer))

    for arguments in (("consumers", "list"), ("consumers", "list", "--json")):
        _, shown = run_at_terminal(developer_api, *arguments, columns=160)

        assert "[bold]" in shown
        assert "\x1b]" not in shown
        assert "\u202e" not in shown


def test_json_is_indented_for_people(developer_api: DeveloperApi) -> None:
    developer_api.answer("GET", f"{BUCKETS}/my-bucket", {"name": "my-bucket", "tags": {}})

    _, shown = run_at_terminal(developer_api, "buckets", "get", "my-bucket", "--json")

    assert shown == '{\n  "name": "my-bucket",\n  "tags": {}\n}\n'


@pytest.mark.parametrize(("typed", "is_deleted"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_a_delete_is_confirmed(developer_api: DeveloperApi, typed: bytes, is_deleted: bool) -> None:
    developer_api.answer("DELETE", f"{BUCKETS}/my-bucket", status=204)

    exit_code, shown = run_at_terminal(developer_api, "buckets", "delete", "my-bucket", typed=typed)

    assert "Delete bucket my-bucket with all its consumers and keys? [y/N]" in shown
    assert (exit_code == 0) is is_deleted
    assert bool(developer_api.requests) is is_deleted
    assert ("Deleted bucket my-bucket." if is_deleted else "keywright: nothing was deleted") in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("buckets", "delete", "my-bucket"),
        ("key", "inspect", "-"),
        ("rotate-master-key", "--discard-old"),
        ("root-key", "revoke", "key_0HfT6wtn1uyYNkLjbVNQEVzK"),
        ("quotas", "reopen"),
        ("edges", "retire", "wq3v0bT1Hq2fJ7dYk9ZcXw"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_ctrl_c_at_a_question_ends_as_a_shell_expects(developer_api: DeveloperApi, arguments: tuple[str, ...]) -> None:
    exit_code, shown = run_at_terminal(developer_api, *arguments, typed=CTRL_C)

    assert exit_code == 130, shown
    assert "Traceback" not in shown
    assert not developer_api.requests


def test_a_secret_is_asked_for_and_not_shown(developer_api: DeveloperApi) -> None:
    exit_code, shown = run_at_terminal(developer_api, "key", "inspect", "-", typed=f"{SECRET}\n".encode())

    assert exit_code == 0
    assert "checksum  right" in without_styles(shown)
    assert SECRET not in shown
