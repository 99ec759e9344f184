"""Every command explains itself, starts fast, and tells in one line why the service can't start."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import keywright
from keywright.cli.app import app
from keywright.runtime.server import StartError


def every_command(group: typer.Typer, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    yield from ((*path, str(command.name)) for command in group.registered_commands)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from every_command(inner.typer_instance, *path, str(inner.name))


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
    return CliRunner(env=env).invoke(app, arguments, prog_name="keywright", catch_exceptions=False)


@pytest.mark.parametrize("path", list(every_command(app)), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    result = run(*path, "--help")

    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert " ".join(("$ keywright", *path)) in result.stdout


def test_help_has_three_parts() -> None:
    text = run("--help").stdout

    assert text.index("─ Run ─") < text.index("─ Maintain ─") < text.index("─ Manage keys ─")
    for command in (
        "serve",
        "migrate",
        "rotate-master-key",
        "edges",
        "buckets",
        "consumers",
        "keys",
        "managers",
        "key",
    ):
        assert f"│ {command} " in text


def test_version() -> None:
    assert run("--version").stdout == f"keywright {keywright.__version__}\n"


def test_importing_the_command_line_loads_nothing_that_serve_would_wait_for() -> None:
    heavy = ["rich", "httpx2", "pydantic", "asyncio", "ssl", "sqlalchemy", "fastapi", "granian"]
    code = f"import sys, keywright.cli; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("serve", "--port", "70000"), ("consumers", "list", "--limit", "0")]
)
def test_usage_errors_exit_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert not result.stdout


class SettingsError(Exception):
    pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts a serve.py and a settings.py in place that note what they are asked to do, or fail."""

    def install(*, failure: Exception | None = None, settings_failure: Exception | None = None) -> list[Any]:
        calls: list[Any] = []

        class OriginSettings:
            @classmethod
            def load(cls, **given: Any) -> dict[str, Any]:
                if settings_failure is not None:
                    raise settings_failure
                return given

        def noting(name: str) -> Callable[..., None]:
            def perform(settings: dict[str, Any], **more: Any) -> None:
                calls.append((name, settings, more))
                if failure is not None:
                    raise failure

            return perform

        serve, settings = ModuleType("keywright.serve.commands"), ModuleType("keywright.runtime.settings")
        vars(serve).update({name: noting(name) for name in ("serve", "migrate", "rotate_master_key")})
        vars(settings).update(OriginSettings=OriginSettings, SettingsError=SettingsError)
        for module in (serve, settings):
            monkeypatch.setitem(sys.modules, module.__name__, module)
            package, _, name = module.__name__.rpartition(".")
            monkeypatch.setattr(importlib.import_module(package), name, module, raising=False)
        return calls

    return install


def test_serve_hands_over_options_and_leaves_variables_to_the_settings(service: Callable[..., list[Any]]) -> None:
    calls = service()

    result = run("serve", "--port", "9000", "--data-dir", "/srv/keys", env={"KEYWRIGHT_WORKERS": "4"})

    assert result.exit_code == 0
    given = {
        "host": None, "port": 9000, "data_dir": Path("/srv/keys"), "database_url": None, "workers": None,
        "region": None, "nats": None, "grpc_port": None,
    }  # fmt: skip
    assert calls == [("serve", given, {"is_new_deployment": False})]


def test_options_win_over_variables(service: Callable[..., list[Any]]) -> None:
    calls = service()

    run("migrate", "--database-url", "postgresql://here", env={"KEYWRIGHT_DATABASE_URL": "postgresql://there"})

    assert calls == [("migrate", {"data_dir": None, "database_url": "postgresql://here"}, {})]


@pytest.mark.parametrize(("arguments", "is_discarding"), [((), False), (("--discard-old", "--yes"), True)])
def test_rotate_master_key(service: Callable[..., list[Any]], arguments: tuple[str, ...], is_discarding: bool) -> None:
    calls = service()

    run("rotate-master-key", *arguments)

    assert calls == [("rotate_master_key", {"data_dir": None, "database_url": None}, {"discard_old": is_discarding})]


def test_old_master_keys_are_not_discarded_unasked(service: Callable[..., list[Any]]) -> None:
    calls = service()

    result = run("rotate-master-key", "--discard-old")

    assert (result.exit_code, calls) == (1, [])
    assert "pass --yes to discard the older master keys" in result.stderr


@pytest.mark.parametrize("command", ["serve", "migrate", "rotate-master-key"])
def test_what_keeps_the_service_from_starting_is_one_line(service: Callable[..., list[Any]], command: str) -> None:
    service(failure=StartError("port 8080 is in use"))

    result = run(command)

    assert result.exit_code == 1
    assert result.stderr == "keywright: port 8080 is in use\n"
    assert not result.stdout


def test_a_wrong_setting_is_one_line(service: Callable[..., list[Any]]) -> None:
    service(settings_failure=SettingsError("KEYWRIGHT_MANAGEMENT_RATE_LIMIT must be a number"))

    result = run("serve")

    assert (result.exit_code, result.stderr) == (1, "keywright: KEYWRIGHT_MANAGEMENT_RATE_LIMIT must be a number\n")


def test_ctrl_c_is_quiet(service: Callable[..., list[Any]]) -> None:
    service(failure=KeyboardInterrupt())  # type: ignore[arg-type]

    result = run("serve")

    assert (result.exit_code, result.output) == (130, "")
