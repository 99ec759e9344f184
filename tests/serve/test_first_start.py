"""The first start makes what a deployment needs; each later one finds it; and what is wrong is one clear line."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from keywright.cli.app import app
from keywright.origin.db import migrations
from keywright.origin.db.tables import SCHEMA_VERSION
from keywright.origin.db.transaction import Database
from support.api import ACCOUNT_URL, Api
from support.ports import free_port
from support.postgres import Postgres
from support.process import ServeProcess, run_command

PEPPER = "cGVwcGVyIG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgb2s="
MASTER_KEY = "bWFzdGVyIGtleSBvZiB0aGUgdGVzdHMsIDMyIGJ5dGU="


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that can't do its work in this process, and returns the one line that it says.

    In a process of its own it takes a second; the class below does so for one failure of each kind.
    """
    for name in [name for name in os.environ if name.startswith("KEYWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("keywright.serve.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr("os.umask", lambda _mask: 0)

    def fail(data_dir: Path, *arguments: str, command: str = "serve", **variables: str) -> str:
        ports = ["--port", str(free_port())] if command == "serve" and "--port" not in arguments else []
        line = [command, "--data-dir", str(data_dir), *ports, *arguments]
        return one_line(CliRunner().invoke(app, line, env=variables))

    return fail


def one_line(done: Result) -> str:
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("keywright: ")
    return str(line.removeprefix("keywright: "))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a deployment that ran once."""
    data = tmp_path_factory.mktemp("kept") / "data"
    with ServeProcess(data).wait_until_ready() as served:
        served.stop()
    return data


@pytest.fixture
def data(kept: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    copy = tmp_path / "data"
    subprocess.run(["cp", "-a", kept, copy], check=True)
    return copy


class TestWhatIsWrongIsOneLine:
    def test_a_port_in_use(self, fail: Callable[..., str], tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = fail(tmp_path / "data", "--port", str(port))
        assert line.startswith(f"can't listen on 127.0.0.1:{port}: address already in use by pid {os.getpid()} (")
        assert line.endswith(f"); stop that one (kill {os.getpid()}), or choose another --port or --host")
        assert not (tmp_path / "data").exists()

    def test_a_directory_below_a_file(self, fail: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert fail(tmp_path / "file" / "data").endswith("/file/data: not a directory")
        assert fail(tmp_path / "file").endswith("/file: file exists")

    def test_a_database_of_a_newer_version(self, fail: Callable[..., str], data: Path) -> None:
        with sqlite3.connect(data / "keywright.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
        assert "has schema 9999, of a newer Keywright" in fail(data)

    def test_a_missing_master_key(self, fail: Callable[..., str], data: Path) -> None:
        (data / "master.key").unlink()
        line = fail(data)
        assert f"{data}/master.key is missing (and KEYWRIGHT_MASTER_KEY is not set)" in line
        assert "restore it from your backup" in line
        assert not (data / "master.key").exists()

    def test_another_master_key(self, fail: Callable[..., str], data: Path) -> None:
        line = fail(data, KEYWRIGHT_MASTER_KEY=MASTER_KEY)
        assert "the master key mk_" in line
        assert "is missing" in line

    def test_a_missing_pepper(self, fail: Callable[..., str], data: Path) -> None:
        (data / "pepper.key").unlink()
        assert "pepper.key is missing (and KEYWRIGHT_PEPPER is not set)" in fail(data)
        assert not (data / "pepper.key").exists()

    def test_another_pepper(self, fail: Callable[..., str], data: Path) -> None:
        line = fail(data, KEYWRIGHT_PEPPER=PEPPER)
        assert "the pepper is not the one that this deployment was made with" in line
        assert PEPPER not in line

    @pytest.mark.parametrize("name", ["master.key", "pepper.key"])
    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not base64!\n", b"AAAA\n"])
    def test_a_key_file_that_holds_none(self, fail: Callable[..., str], data: Path, name: str, content: bytes) -> None:
        (data / name).write_bytes(content)
        assert name in fail(data)

    def test_a_key_file_that_is_a_directory(self, fail: Callable[..., str], data: Path) -> None:
        (data / "pepper.key").unlink()
        (data / "pepper.key").mkdir()
        assert "pepper.key can't be read: Is a directory" in fail(data)

    def test_a_database_file_that_is_none(self, fail: Callable[..., str], data: Path) -> None:
        (data / "keywright.db").write_bytes(os.urandom(16384))
        for path in data.glob("keywright.db-*"):
            path.unlink()
        assert fail(data) == f"can't use the database in {data}: file is not a database"

    def test_a_postgresql_that_is_not_there(self, fail: Callable[..., str], tmp_path: Path) -> None:
        port = free_port()
        line = fail(tmp_path / "data", KEYWRIGHT_DATABASE_URL=f"postgresql://u:pass-word@127.0.0.1:{port}/db")
        assert line.startswith(f"can't use the database in 127.0.0.1:{port}/db: ")
        assert "pass-word" not in line

    def test_a_postgresql_without_that_database(
        self, fail: Callable[..., str], tmp_path: Path, postgres: Postgres
    ) -> None:
        line = fail(tmp_path / "data", "--database-url", postgres.url("no_such_database"))
        assert 'database "no_such_database" does not exist' in line

    @pytest.mark.parametrize(
        ("variable", "value", "complaint"),
        [
            ("KEYWRIGHT_DATABASE_URL", "mysql://localhost/db", "must begin with postgresql:// or sqlite://"),
            ("KEYWRIGHT_DATABASE_URL", "postgresql://localhost:port/db", "is not a URL"),
            ("KEYWRIGHT_DATABASE_URL", "postgresql://localhost/db?nonsense=1", "not known: nonsense"),
            ("KEYWRIGHT_DATABASE_URL", "sqlite://", "names no file"),
            ("KEYWRIGHT_BOOTSTRAP_KEY", "short", "must be 32 to 512 printable"),
            ("KEYWRIGHT_BOOTSTRAP_ACCOUNT", "My Account", "must be 1 to 128 of a-z"),
            ("KEYWRIGHT_MAX_TAGS", "-1", "must be a whole number from 0 to 100"),
            ("KEYWRIGHT_MAX_METADATA_BYTES", "1e3", "must be a whole number"),
            ("KEYWRIGHT_MANAGEMENT_RATE_LIMIT", "9" * 50, "must be a whole number"),
            ("KEYWRIGHT_LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
            ("KEYWRIGHT_VALIDATION_TOKEN_REQUIRED", "maybe", "must be one of true, false"),
            ("KEYWRIGHT_PEPPER", "not base64!", "is not base64"),
            ("KEYWRIGHT_MASTER_KEY", "AAAA", "3 bytes; 32 are needed"),
        ],
    )
    def test_a_setting_that_is_none(
        self, fail: Callable[..., str], tmp_path: Path, variable: str, value: str, complaint: str
    ) -> None:
        line = fail(tmp_path / "data", **{variable: value})
        assert complaint in line
        assert variable in line
        assert variable != "KEYWRIGHT_BOOTSTRAP_KEY" or value not in line

    def test_rotating_where_there_is_nothing(self, fail: Callable[..., str], tmp_path: Path) -> None:
        line = fail(tmp_path / "data", command="rotate-master-key")
        assert line == "there is no deployment here yet; `keywright serve` makes one"


class TestAProcessThatCanNotStart:
    """Exit code 1 and the line on standard error, as a stranger sees it."""

    def test_says_why_and_nothing_else(self, data: Path, tmp_path: Path) -> None:
        (data / "master.key").unlink()
        (tmp_path / "file").touch()
        unreachable = f"postgresql://u:pass-word@127.0.0.1:{free_port()}/db"
        commands = {
            "master.key is missing": ["serve", "--data-dir", str(data)],
            "not a directory": ["serve", "--data-dir", str(tmp_path / "file" / "data")],
            "can't use the database": ["migrate", "--database-url", unreachable, "--data-dir", str(tmp_path / "data")],
        }
        for complaint, command in commands.items():
            done = run_command(*command, *(["--port", str(free_port())] if command[0] == "serve" else []))
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert complaint in done.stderr
            assert "Traceback" not in done.stderr
            assert "pass-word" not in done.stderr


def test_the_first_start_makes_everything_for_its_user_alone_and_a_second_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    data = tmp_path / "new" / "data"
    with ServeProcess(data, "--workers", "2", from_nothing=True).wait_until_ready() as served:
        root_key = served.printed("API_KEY")
        api = Api(served, root_key)
        projects = api.call("GET", f"{ACCOUNT_URL}/projects")["data"]
        api.call(
            "POST", f"/v1/accounts/my-account/key-buckets/{served.printed('BUCKET_NAME')}/consumers", json={"name": "a"}
        )
        assert served.output().count(root_key) == 1
        assert served.stop() == 0

    environments = {name: f"my-project-{name}" for name in ("production", "preview", "working-copy")}
    assert [(project["name"], project["environments"]) for project in projects] == [("my-project", environments)]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [data, *data.rglob("*")]}
    assert {path.name for path in modes} >= {"data", "pepper.key", "master.key", "keywright.db", "replica", "data.mdb"}
    assert {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}

    before = {name: (data / name).read_bytes() for name in ("pepper.key", "master.key")}
    with ServeProcess(data, from_nothing=True).wait_until_ready() as again:
        assert "export" not in again.output()
        assert root_key[-20:] not in again.output()
        assert Api(again, root_key).call("GET", "/v1/who-am-i")["account"] == "my-account"
    assert {name: (data / name).read_bytes() for name in before} == before


def test_account_and_key_can_be_fixed_for_automation(tmp_path: Path) -> None:
    variables = {
        "KEYWRIGHT_BOOTSTRAP_ACCOUNT": "acme_1",
        "KEYWRIGHT_BOOTSTRAP_KEY": "a-root-key-chosen-by-an-automation",
    }
    with ServeProcess(tmp_path / "data", **variables).wait_until_ready() as served:
        who = Api(served, "a-root-key-chosen-by-an-automation").call("GET", "/v1/who-am-i")
        assert who["account"] == "acme_1"
        # Who gave it knows it.
        assert "a-root-key-chosen-by-an-automation" not in served.output()
    with ServeProcess(tmp_path / "data", KEYWRIGHT_BOOTSTRAP_KEY="another-key-now").wait_until_ready() as again:
        assert "Note: KEYWRIGHT_BOOTSTRAP_KEY is not a key of this deployment" in again.output()
        Api(again, "another-key-now").call("GET", "/v1/who-am-i", expect=401)
        Api(again, "a-root-key-chosen-by-an-automation").call("GET", "/v1/who-am-i")


def test_two_first_starts_at_once_in_one_directory_make_one_deployment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServeProcess(data) as one, ServeProcess(data) as other:
        outputs = [served.wait_until_ready().output() for served in (one, other)]
        assert sorted("export API_KEY" in output for output in outputs) == [False, True]
        first = one if "export API_KEY" in outputs[0] else other
        for served in (one, other):
            assert Api(served, first.printed("API_KEY")).call("GET", f"{ACCOUNT_URL}/key-buckets")["total"] == 3


def test_two_machines_that_start_at_once_on_one_postgresql_make_one_deployment(
    tmp_path: Path, postgres: Postgres
) -> None:
    variables = {
        "KEYWRIGHT_DATABASE_URL": postgres.new_database(),
        "KEYWRIGHT_PEPPER": PEPPER,
        "KEYWRIGHT_MASTER_KEY": MASTER_KEY,
        "KEYWRIGHT_BOOTSTRAP_KEY": "a-root-key-chosen-by-an-automation",
    }
    with ServeProcess(tmp_path / "one", **variables) as one, ServeProcess(tmp_path / "other", **variables) as other:
        outputs = [served.wait_until_ready().output() for served in (one, other)]
        assert sorted("This is the first start" in output for output in outputs) == [False, True]
        for served in (one, other):
            api = Api(served, "a-root-key-chosen-by-an-automation")
            assert api.call("GET", f"{ACCOUNT_URL}/key-buckets")["total"] == 3
            assert api.call("GET", "/v1/accounts")["total"] == 1


async def test_many_that_bootstrap_one_record_at_once_all_succeed_and_one_makes_it(database_url: str) -> None:
    import secrets

    from keywright.domain.keyformat import Digester
    from keywright.origin.deployment import rules as deployment
    from keywright.origin.keys.vault import KeyRing, Vault
    from keywright.origin.pipeline.unit_of_work import Dependencies, Limits
    from support.record import now

    vault = Vault(lambda: KeyRing.of(bytes(32)), secrets.token_bytes)
    dependencies = Dependencies(vault, Digester(bytes(32)), secrets.token_bytes, now, Limits())
    databases = [Database(database_url) for _ in range(4)]
    await migrations.upgrade(databases[0])

    made = await asyncio.gather(
        *(deployment.bootstrap(database, dependencies, account_name=None, root_key=None) for database in databases)
    )

    for database in databases:
        await database.close()
    assert sum(one is not None for one in made) == 1


def test_migrate_says_what_it_did(postgres: Postgres, tmp_path: Path) -> None:
    def migrate(url: str) -> str:
        return run_command("migrate", "--data-dir", str(tmp_path / "data"), "--database-url", url).stdout

    url = postgres.new_database()
    assert migrate(url) == f"The database was migrated from schema none to {SCHEMA_VERSION}.\n"
    assert migrate(url) == f"The database is up to date (schema {SCHEMA_VERSION}).\n"
    other = postgres.new_database()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        said = list(pool.map(migrate, [other] * 3))
    assert sorted("migrated" in line for line in said) == [False, False, True]


async def test_migrate_brings_an_older_sqlite_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/data/keywright.db")
    async with database.engine.begin() as connection:
        await connection.run_sync(migrations._upgrade, "0001")
    await database.close()
    said = run_command("migrate", "--data-dir", str(tmp_path / "data")).stdout
    assert said == f"The database was migrated from schema 0001 to {SCHEMA_VERSION}.\n"
