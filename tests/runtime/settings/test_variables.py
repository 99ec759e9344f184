"""A variable that nothing reads does not pass unseen; what Kubernetes sets does; values are never shown."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keywright.cli.app import app
from keywright.policy.shared import SharedReplica
from keywright.runtime.settings import OriginSettings, SettingsError, common, variables
from keywright.runtime.settings.kinds import Part
from keywright.runtime.settings.reader import Reader, is_of_kubernetes
from keywright.runtime.settings.variables import hand_on, nearest, refuse_unknown, warn_of_old_names, warn_of_unknown
from support.ports import free_port
from support.process import COMMAND

LOG = logging.getLogger("test")
KUBERNETES = {
    "KEYWRIGHT_SERVICE_HOST": "10.0.0.1",
    "KEYWRIGHT_SERVICE_PORT": "80",
    "KEYWRIGHT_SERVICE_PORT_HTTP": "80",
    "KEYWRIGHT_PORT": "tcp://10.0.0.1:80",
    "KEYWRIGHT_PORT_80_TCP": "tcp://10.0.0.1:80",
    "KEYWRIGHT_PORT_80_TCP_ADDR": "10.0.0.1",
    "KEYWRIGHT_PORT_80_TCP_PORT": "80",
    "KEYWRIGHT_PORT_80_TCP_PROTO": "tcp",
    "KEYWRIGHT_PORT_53_UDP_PROTO": "udp",
    "KEYWRIGHT_PORT_9_SCTP": "sctp://10.0.0.1:9",
    "KEYWRIGHT_EDGE_SERVICE_HOST": "10.0.0.2",
    "KEYWRIGHT_GRPC_PORT": "tcp://10.0.0.3:9001",
    "KEYWRIGHT_GRPC_PORT_9001_TCP_ADDR": "10.0.0.3",
}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KEYWRIGHT_VALIDATION_TOKEN_REQUIRE", "KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
        ("KEYWRIGHT_VALIDATION_TOKENS_REQUIRED", "KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
        ("KEYWRIGHT_VALIDATION_TOKEN_REQIURED", "KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
        ("KEYWRIGHT_IGNORE_VARIABLE", "KEYWRIGHT_IGNORE_VARIABLES"),
        ("KEYWRIGHT_MANAGEMENT_KEYS", "KEYWRIGHT_MANAGEMENT_KEY"),
        ("KEYWRIGHT_TEST_SEEDS", "KEYWRIGHT_TEST_SEED"),
    ],
)
def test_a_name_within_two_edits_of_one_of_ours_stops_the_start(name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not a variable of Keywright; is {meant} meant") as caught:
        refuse_unknown({name: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_any_other_unknown_name_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"KEYWRIGHT_COLOUR": "hunter2", "PATH": "/bin", "keywright_port": "1"}
    refuse_unknown(environ)
    with caplog.at_level(logging.INFO):
        warn_of_unknown(environ, LOG)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "KEYWRIGHT_COLOUR" in caplog.text
    assert "hunter2" not in caplog.text


def test_in_strict_mode_every_unknown_name_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="KEYWRIGHT_COLOUR"):
        refuse_unknown({"KEYWRIGHT_COLOUR": "1", "KEYWRIGHT_STRICT_SETTINGS": "true"})
    refuse_unknown({"KEYWRIGHT_COLOUR": "1", "KEYWRIGHT_STRICT_SETTINGS": "false"})


def test_names_that_are_listed_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "KEYWRIGHT_VALIDATION_TOKEN_REQUIRE": "true",
        "KEYWRIGHT_COLOUR": "1",
        "KEYWRIGHT_STRICT_SETTINGS": "true",
        "KEYWRIGHT_IGNORE_VARIABLES": "KEYWRIGHT_COLOUR, KEYWRIGHT_VALIDATION_TOKEN_REQUIRE",
    }
    refuse_unknown(environ)
    warn_of_unknown(environ, LOG)
    assert caplog.records == []


@pytest.mark.parametrize("setting", variables.SETTINGS, ids=lambda setting: setting.name)
def test_a_name_of_ours_is_known(setting: common.Setting[object]) -> None:
    names = [setting.name, *(old.name for old in setting.old_names)]
    refuse_unknown({**dict.fromkeys(names, ""), "KEYWRIGHT_STRICT_SETTINGS": "true"})


def test_what_kubernetes_sets_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    environ = {**KUBERNETES, "KEYWRIGHT_STRICT_SETTINGS": "true"}
    refuse_unknown(environ)
    with caplog.at_level(logging.INFO):
        warn_of_unknown(environ, LOG)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert all(name in caplog.text for name in KUBERNETES)
    assert "10.0.0" not in caplog.text


def test_an_address_of_kubernetes_is_no_port_and_a_number_is() -> None:
    assert Reader(KUBERNETES, {}).get(common.PORT) == 8080
    assert Reader(KUBERNETES, {}).get(common.GRPC_PORT) == 0
    assert Reader({"KEYWRIGHT_PORT": "9000"}, {}).get(common.PORT) == 9000
    with pytest.raises(SettingsError, match="KEYWRIGHT_PORT"):
        Reader({"KEYWRIGHT_PORT": "http://10.0.0.1"}, {}).get(common.PORT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYWRIGHT_GRCP_PORT", "9001"),
        ("KEYWRIGHT_PORT_TCP", "80"),
        ("KEYWRIGHT_PORT_80_TLS", "80"),
        ("KEYWRIGHT_SERVICE", "x"),
        ("KEYWRIGHT_HOST", "tcp://10.0.0.1:80"),
    ],
)
def test_what_only_looks_like_kubernetes_is_ours(name: str, value: str) -> None:
    assert not is_of_kubernetes(name, value)


def test_old_names_are_one_warning_for_those_that_read_them(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"KEYWRIGHT_TAGS": "7", "KEYWRIGHT_METADATA_BYTES": "100", "KEYWRIGHT_API_KEY": "hunter2"}
    warn_of_old_names(environ, Part.SERVE, LOG)
    warn_of_old_names(environ, Part.EDGE, LOG)
    assert len(caplog.records) == 1
    assert "KEYWRIGHT_TAGS is now KEYWRIGHT_MAX_TAGS" in caplog.text
    assert "KEYWRIGHT_METADATA_BYTES is now KEYWRIGHT_MAX_METADATA_BYTES" in caplog.text
    assert "KEYWRIGHT_API_KEY" not in caplog.text


def test_workers_read_what_was_read_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {**KUBERNETES, "KEYWRIGHT_TAGS": "7", "KEYWRIGHT_MIN_REVISION_TIMEOUT": "250", "KEYWRIGHT_REGION": "eu"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    read = OriginSettings.load(data_dir=tmp_path, region="us")

    hand_on(os.environ, read.flags)

    again = OriginSettings.load()
    assert (again.data_dir, again.region, again.max_tags, again.min_revision_seconds) == (tmp_path, "us", 7, 0.25)
    assert not variables.old_names_in(os.environ, Part.SERVE)
    assert "KEYWRIGHT_PORT" not in os.environ


def test_the_nearest_name_is_the_one_with_the_fewest_edits() -> None:
    assert nearest("KEYWRIGHT_NATS_PASWORD", ["KEYWRIGHT_NATS_USER", "KEYWRIGHT_NATS_PASSWORD"]) == (
        "KEYWRIGHT_NATS_PASSWORD"
    )
    assert nearest("ABCDEF", ["ABCXYZ"]) is None
    assert nearest("AB", ["ABCD", "ABC"]) == "ABC"


@pytest.mark.parametrize("command", ["serve", "edge"])
def test_a_service_with_a_mistyped_variable_does_not_start(command: str, tmp_path: Path) -> None:
    done = start(command, tmp_path, KEYWRIGHT_VALIDATION_TOKEN_REQUIRE="hunter2")
    assert done.returncode == 1
    assert "is KEYWRIGHT_VALIDATION_TOKEN_REQUIRED meant?" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert not (tmp_path / "data").exists()


def test_a_command_only_warns_of_a_mistyped_variable() -> None:
    mistyped = {"KEYWRIGHT_VALIDATION_TOKEN_REQUIRE": "hunter2", "KEYWRIGHT_STRICT_SETTINGS": "true"}
    result = CliRunner(env=mistyped).invoke(app, ["key", "inspect", "-"], input="abcdefgh")
    assert result.exit_code == 0
    assert result.stderr.count("KEYWRIGHT_VALIDATION_TOKEN_REQUIRE is not a variable") == 1
    assert "hunter2" not in result.output


def open_and_close(directory: Path) -> None:
    source = SharedReplica(directory, pepper=base64.b64encode(bytes(32)).decode(), ready_seconds=0)
    source.open()
    source.close()


def test_the_policy_in_an_app_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEYWRIGHT_VALIDATION_TOKEN_REQUIRE", "hunter2")
    monkeypatch.setenv("KEYWRIGHT_STRICT_SETTINGS", "perhaps")
    open_and_close(tmp_path)
    assert "KEYWRIGHT_STRICT_SETTINGS must be" in caplog.text
    monkeypatch.setenv("KEYWRIGHT_STRICT_SETTINGS", "true")
    open_and_close(tmp_path)
    assert "is KEYWRIGHT_VALIDATION_TOKEN_REQUIRED meant?" in caplog.text
    assert "hunter2" not in caplog.text


def start(command: str, tmp_path: Path, **given: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYWRIGHT_")}
    arguments = [COMMAND, command, "--data-dir", str(tmp_path / "data"), "--port", str(free_port())]
    return subprocess.run(arguments, env={**clean, **given}, capture_output=True, text=True, timeout=60, check=False)
