"""Every command explains itself, starts fast, and tells in one line why the service can't start."""

from __future__ import annotations

import importlib
import inspect
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
from keywright.cli import running
from keywright.cli.app import app
from keywright.cli.operations.service import edge, serve
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


STARTED = """
import os, sys
os.environ["KEYWRIGHT_PORT"] = "not a number"
sys.argv = ["keywright", %r, "--data-dir", "/nowhere"]
from keywright.cli import main
try:
    main()
except SystemExit as ended:
    assert ended.code == 1, ended.code
{import_rest}
print(*sorted(sys.modules))
"""
RUN_BY_EDGE = "import keywright.edge.start, keywright.edge.worker, keywright.runtime.processes.rolling"
NOT_FOR_EDGE = {
    "fastapi", "starlette", "pydantic", "sqlalchemy", "alembic", "aiosqlite", "jinja2", "joserfc", "cryptography",
    "rich", "keywright.origin", "keywright.serve", "nats", "grpc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "import_rest", "unwanted"), [("serve", "", set()), ("edge", RUN_BY_EDGE, NOT_FOR_EDGE)]
)
def test_what_runs_the_service_loads_no_other_commands_and_an_edge_nothing_of_an_origin(
    command: str, import_rest: str, unwanted: set[str]
) -> None:
    code = STARTED.replace("{import_rest}", import_rest) % command
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "KEYWRIGHT_PORT" in done.stderr
    assert {"keywright.cli.running", "keywright.cli.operations.service"} <= loaded
    others = {"keywright.cli.app", "keywright.cli.resources", "keywright.cli.key_inspect", "keywright.cli.api_client"}
    assert loaded & (others | unwanted) == set()


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["--port", "9000", "--data-dir=/srv/keys"], {"port": 9000, "data_dir": Path("/srv/keys")}),
        (["--port", "1", "--port", "2"], {"port": 2}),
        (["--new-deployment", "--nats", "nats://a:4222"], {"new_deployment": True, "nats": "nats://a:4222"}),
        (["--database-url", "sqlite:///a=b.db"], {"database_url": "sqlite:///a=b.db"}),
        (["--grpc-port", "0"], {"grpc_port": 0}),
        # All of these are Typer's to refuse, to explain or to take.
        (["--help"], None),
        (["--port"], None),
        (["--port", ""], None),
        (["--port="], None),
        (["--port", "-1"], None),
        (["--port", "0"], None),
        (["--port", "65536"], None),
        (["--port", "8_080"], None),
        (["--port", "\u0668"], None),
        (["--new-deployment=yes"], None),
        (["--por", "80"], None),
        (["--data-dir", "a", "b"], None),
        (["--", "--port", "80"], None),
    ],
)
def test_plain_options_of_serve_are_read_as_typer_reads_them(
    arguments: list[str], given: dict[str, Any] | None, service: Callable[..., list[Any]]
) -> None:
    assert running.read_options(serve, arguments) == given
    if given is not None:
        calls = service()
        assert run("serve", *arguments).exit_code == 0
        serve(**given)
        assert calls[0] == calls[1]


def test_every_option_of_what_runs_the_service_is_read_without_typer() -> None:
    for command in (serve, edge):
        options = running._options_of(command)
        assert {parameter for parameter, _, _ in options.values()} == set(inspect.signature(command).parameters)


def test_whatever_does_not_run_the_service_has_all_commands() -> None:
    code = "import sys; sys.argv = ['keywright', '--help']; from keywright.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f" {command} " in done.stdout for command in ("serve", "edge", "consumers", "keys", "snapshot"))


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
