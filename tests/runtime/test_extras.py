"""The default install runs with SQLite; what needs an extra says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from keywright.policy.embedded import EmbeddedReplica
from keywright.runtime import extras
from keywright.runtime.extras import MissingExtra
from keywright.runtime.nats_options import NatsOptions
from support.api import VARIABLES, Api
from support.ports import free_port
from support.process import ServeProcess, run_command

BARE = str(Path(__file__).parent / "bare")
PEPPER = "cGVwcGVyIG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgb2s="


def test_the_default_install_serves_on_sqlite(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", PYTHONPATH=BARE, **VARIABLES).wait_until_ready() as served:
        api = Api(served)
        key = api.new_consumer(apiKeys=[{}])["apiKeys"][0]["key"]
        assert api.verdict(key) == "VALID"
        assert served.stop() == 0
        assert "Traceback" not in served.output()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["serve", "--nats", "nats://127.0.0.1:1"], "needs the extra nats: pip install 'keywright[nats]'"),
        (["edge", "--nats", "nats://127.0.0.1:1"], "needs the extra nats: pip install 'keywright[nats]'"),
        (["serve", "--grpc-port", "0"], "pip install 'keywright[grpc]'"),
        (
            ["serve", "--database-url", "postgresql://127.0.0.1:1/none"],
            "PostgreSQL needs the extra postgresql: pip install 'keywright[postgresql]'",
        ),
    ],
    ids=["serve --nats", "edge --nats", "grpc", "postgresql"],
)
def test_what_needs_an_extra_names_it(tmp_path: Path, command: list[str], said: str) -> None:
    port = str(free_port())
    command = [str(free_port()) if word == "0" else word for word in command]
    done = run_command(
        *command, "--data-dir", str(tmp_path / "data"), "--port", port, PYTHONPATH=BARE, KEYWRIGHT_PEPPER=PEPPER
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("command", ["migrate", "root-key list", "rotate-master-key"])
def test_maintenance_names_it_as_well(tmp_path: Path, command: str) -> None:
    url = "postgresql://127.0.0.1:1/none"
    done = run_command(*command.split(), "--database-url", url, "--data-dir", str(tmp_path), PYTHONPATH=BARE)
    assert done.returncode == 1
    assert "keywright[postgresql]" in done.stderr


def test_an_app_at_a_broker_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"keywright\[nats\]"):
        EmbeddedReplica.from_broker(NatsOptions(("nats://127.0.0.1:1",)), directory=tmp_path)
