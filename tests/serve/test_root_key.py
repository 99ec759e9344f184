"""Whoever holds record and pepper makes, lists and ends root keys, beside the running service, on either engine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keywright.cli.app import app
from support.api import ACCOUNT_URL, ROOT_KEY, VARIABLES, Api
from support.ports import free_port
from support.postgres import Postgres
from support.process import ServeProcess, run_command


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run here, where a process of their own takes a second, leave its logs and umask alone."""
    for name in [name for name in os.environ if name.startswith("KEYWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("keywright.serve.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr("os.umask", lambda _mask: 0)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_leaked_root_key_is_replaced_and_a_lost_one_made_anew(
    tmp_path: Path, engine: str, postgres: Postgres
) -> None:
    variables = {"KEYWRIGHT_DATABASE_URL": postgres.new_database()} if engine == "postgresql" else {}
    data = ("--data-dir", str(tmp_path / "data"))

    def root_key(*arguments: str, expect: int = 0) -> str:
        done = CliRunner().invoke(app, ["root-key", *arguments, *data], env=variables)
        assert done.exit_code == expect, done.output
        return done.stdout or done.stderr

    with ServeProcess(tmp_path / "data", "--workers", "2", **VARIABLES, **variables).wait_until_ready() as served:
        assert f"keywright root-key create --data-dir {tmp_path}/data" in served.output()
        old = Api(served)
        (leaked,) = json.loads(root_key("list", "--json"))["data"]
        assert leaked["key"] == "****" + ROOT_KEY[-8:]
        old.call("DELETE", f"{ACCOUNT_URL}/management-keys/{leaked['id']}", expect=409)

        made = json.loads(root_key("create", "--json", "--description", "after the leak"))
        new = Api(served, made["key"])
        new.call("POST", "/v1/accounts", json={"name": "another-account"})
        assert "is revoked" in root_key("revoke", leaked["id"], "--yes")
        old.call("GET", "/v1/who-am-i", expect=401)

        listed = root_key("list")
        assert made["id"] in listed
        assert "after the leak" in listed
        assert made["key"] not in listed + served.output()
        assert leaked["id"] not in listed

        # Switched off by another one, or tied to an address where nobody is: the way back is here.
        other = json.loads(root_key("create", "--json"))
        by_other, url = Api(served, other["key"]), f"{ACCOUNT_URL}/management-keys/{made['id']}"
        by_other.call("PATCH", url, json={"enabled": False, "allowedIps": ["192.0.2.1"]})
        new.call("GET", "/v1/who-am-i", expect=401)
        by_other.call("PATCH", f"{ACCOUNT_URL}/management-keys/{other['id']}", json={"enabled": False}, expect=409)
        assert re.search(r"off +192\.0\.2\.1/32", root_key("list"))
        root_key("enable", made["id"])
        new.call("GET", "/v1/who-am-i")
        root_key("revoke", other["id"], "--yes")

        # Lost, and another one in another account's list.
        elsewhere = json.loads(root_key("create", "--json", "--account", "another-account"))
        root_key("revoke", made["id"], "--yes")
        new.call("GET", "/v1/accounts", expect=401)
        root_key("revoke", elsewhere["id"], "--yes")
        assert "Create one: keywright root-key create" in root_key("list")
        again = Api(served, json.loads(root_key("create", "--json"))["key"])
        entries = again.call("GET", f"{ACCOUNT_URL}/audit-logs")["data"]
        actions = [(entry["action"], entry["actor"]["type"]) for entry in entries]
        assert actions.count(("root-key.create", "system")) == 3
        assert actions.count(("root-key.revoke", "system")) == 3
        assert actions.count(("root-key.enable", "system")) == 1

    assert "no root key with the id" in root_key("revoke", "key_none", "--yes", expect=1)
    assert "no such account" in root_key("create", "--account", "nobodys", expect=1).lower()
    assert "pass --yes" in root_key("revoke", made["id"], expect=1)


@pytest.mark.parametrize("command", [("create",), ("list",), ("revoke", "key_1", "--yes")], ids=lambda c: c[0])
def test_without_record_or_pepper_nothing_is_done(tmp_path: Path, command: tuple[str, ...]) -> None:
    data = tmp_path / "data"
    done = run_command("root-key", *command, "--data-dir", str(data))
    assert (done.returncode, done.stdout) == (1, "")
    assert list(tmp_path.iterdir()) == []
    with ServeProcess(data, **VARIABLES).wait_until_ready() as served:
        served.stop()
    other = {"KEYWRIGHT_PEPPER": "cGVwcGVyIG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgb2s="}
    done = run_command("root-key", *command, "--data-dir", str(data), **other)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the pepper is not the one" in done.stderr
    (data / "keywright.db").unlink()
    done = run_command("root-key", *command, "--data-dir", str(data))
    assert "holds no deployment" in done.stderr
    assert not (data / "keywright.db").exists()


def test_a_bootstrap_key_that_can_be_guessed_is_refused_at_the_first_start(tmp_path: Path) -> None:
    short = "a-key-of-31-characters-is-short"
    assert len(short) == 31
    done = run_command(
        "serve", "--data-dir", str(tmp_path / "data"), "--port", str(free_port()), KEYWRIGHT_BOOTSTRAP_KEY=short
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "KEYWRIGHT_BOOTSTRAP_KEY must have 32 characters or more" in done.stderr
    assert short not in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_deployment_with_a_short_one_starts_and_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keywright.domain.keyformat import Secret
    from keywright.serve import first_start
    from support import service as services

    settings = services.settings_for(tmp_path / "data", bootstrap_key=Secret("as-they-were"))
    with monkeypatch.context() as before:
        before.setattr(first_start, "BOOTSTRAP_KEY_LENGTH", 8)
        await first_start.prepare(settings)
    (note,) = (await first_start.prepare(settings)).notes
    assert "fewer than 32 characters" in note
