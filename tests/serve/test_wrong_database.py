"""A database that is empty, missing or another deployment's is no first start: `serve` says so, and nothing is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.serve.worker import ServeWorker
from support import service as services
from support.api import VARIABLES, Api
from support.ports import free_port
from support.postgres import Postgres
from support.process import ServeProcess, run_command

PEPPER = "cGVwcGVyIG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgb2s="
MASTER_KEY = "bWFzdGVyIGtleSBvZiB0aGUgdGVzdHMsIDMyIGJ5dGU="
SECRETS = {"KEYWRIGHT_PEPPER": PEPPER, "KEYWRIGHT_MASTER_KEY": MASTER_KEY}


@dataclass(frozen=True)
class Kept:
    """A deployment that ran and was stopped: its data directory, its id, and a key of it."""

    data: Path
    id: str
    key: str


def refuse_to_serve(data: Path, *arguments: str, **variables: str) -> str:
    """The line with which `keywright serve` refuses to start."""
    done = run_command(
        "serve", "--data-dir", str(data), "--port", str(free_port()), *arguments, **{**VARIABLES, **variables}
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def id_of(served: ServeProcess) -> str:
    found = re.search(r"^Deployment: (dply_\w{24})$", served.output(), re.MULTILINE)
    assert found, served.output()
    return found[1]


def keep(data: Path, **variables: str) -> Kept:
    with ServeProcess(data, **VARIABLES, **variables).wait_until_ready() as served, Api(served) as api:
        key = api.new_consumer(apiKeys=[{}])["apiKeys"][0]["key"]
        assert api.verdict(key) == "VALID"
        kept = Kept(data, id_of(served), key)
        assert served.stop() == 0
    return kept


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return keep(tmp_path_factory.mktemp("kept") / "data")


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    """A copy, to be broken."""
    subprocess.run(["cp", "-a", original.data, tmp_path / "data"], check=True)
    return Kept(tmp_path / "data", original.id, original.key)


def take_the_database_away(kept: Kept) -> None:
    for path in kept.data.glob("keywright.db*"):
        path.unlink()


def empty_the_database(kept: Kept) -> None:
    take_the_database_away(kept)
    (kept.data / "keywright.db").touch()


def no_marker(kept: Kept) -> None:
    (kept.data / "deployment.id").unlink()


def no_replica(kept: Kept) -> None:
    shutil.rmtree(kept.data / "replica")


def nothing(_kept: Kept) -> None:
    pass


@pytest.mark.parametrize("sign", [nothing, no_marker, no_replica], ids=["both-signs", "replica", "marker"])
@pytest.mark.parametrize("damage", [take_the_database_away, empty_the_database], ids=["absent", "0-bytes"])
def test_a_lost_database_file_is_refused_and_nothing_is_made(
    kept: Kept, damage: Callable[[Kept], None], sign: Callable[[Kept], None]
) -> None:
    damage(kept)
    sign(kept)
    before = sorted(path.name for path in kept.data.iterdir())

    line = refuse_to_serve(kept.data)

    assert f"{kept.data}/keywright.db holds no deployment" in line
    assert kept.id in line
    assert "--new-deployment" in line
    assert sorted(path.name for path in kept.data.iterdir()) == before


def test_once_the_database_is_back_the_replica_answers_as_before(original: Kept, kept: Kept) -> None:
    take_the_database_away(kept)
    refuse_to_serve(kept.data)
    for path in original.data.glob("keywright.db*"):
        shutil.copy(path, kept.data)
    with ServeProcess(kept.data, KEYWRIGHT_LOG_LEVEL="info").wait_until_ready() as served:
        assert served.verdict(kept.key) == "VALID"
        assert "took a snapshot" not in served.output()


def test_another_sqlite_path_is_refused_and_not_made(kept: Kept, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    line = refuse_to_serve(kept.data, "--database-url", f"sqlite:///{other}")
    assert f"{other} holds no deployment" in line
    assert kept.id in line
    assert not other.exists()


def test_an_empty_postgresql_beside_a_full_data_directory_is_refused(kept: Kept, postgres: Postgres) -> None:
    line = refuse_to_serve(kept.data, KEYWRIGHT_DATABASE_URL=(url := postgres.new_database()))
    assert "holds no deployment" in line
    assert kept.id in line
    database = url.rpartition("/")[2]
    assert postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database).strip() == "0"


def test_a_database_of_another_deployment_is_refused_and_both_are_named(kept: Kept, tmp_path: Path) -> None:
    secrets = {"KEYWRIGHT_PEPPER_FILE": str(kept.data / "pepper.key"), "KEYWRIGHT_MASTER_KEY": MASTER_KEY}
    other = keep(tmp_path / "other", **secrets)
    for sign in (nothing, no_marker, no_replica):
        copy = Kept(tmp_path / sign.__name__, kept.id, kept.key)
        subprocess.run(["cp", "-a", kept.data, copy.data], check=True)
        sign(copy)
        line = refuse_to_serve(copy.data, "--database-url", f"sqlite:///{other.data}/keywright.db", **secrets)
        assert f"holds deployment {other.id}" in line
        assert kept.id in line


def test_a_replica_of_another_deployment_than_database_and_marker_is_refused(kept: Kept, tmp_path: Path) -> None:
    other = keep(tmp_path / "other", KEYWRIGHT_PEPPER_FILE=str(kept.data / "pepper.key"))
    shutil.copy(other.data / "deployment.id", kept.data)
    for path in other.data.glob("keywright.db*"):
        shutil.copy(path, kept.data)
    line = refuse_to_serve(kept.data)
    assert f"holds deployment {other.id}" in line
    assert f"{kept.data}/replica" in line
    assert kept.id in line


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_key_material_alone_is_a_first_start(tmp_path: Path, engine: str, postgres: Postgres) -> None:
    """The normal start with mounted secrets, or with variables."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "pepper.key").write_text(PEPPER + "\n")
    (data / "master.key").write_text(MASTER_KEY + "\n")
    for name in ("pepper.key", "master.key"):
        (data / name).chmod(0o600)
    variables = {"KEYWRIGHT_DATABASE_URL": postgres.new_database()} if engine == "postgresql" else {}
    with ServeProcess(data, **VARIABLES, **variables).wait_until_ready() as served:
        assert "This is the first start" in served.output()
        id_of(served)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_stateless_origin_says_which_deployment_it_expects(tmp_path: Path, engine: str, postgres: Postgres) -> None:
    def new_url(name: str) -> str:
        return postgres.new_database() if engine == "postgresql" else f"sqlite:///{tmp_path}/{name}.db"

    variables = {**SECRETS, "KEYWRIGHT_DATABASE_URL": new_url("right")}
    kept = keep(tmp_path / "pod-1", **variables)

    with ServeProcess(
        tmp_path / "pod-2", **VARIABLES, **variables, KEYWRIGHT_EXPECT_DEPLOYMENT=kept.id
    ).wait_until_ready() as served:
        assert served.verdict(kept.key) == "VALID"

    wrong = {**SECRETS, "KEYWRIGHT_DATABASE_URL": new_url("empty"), "KEYWRIGHT_EXPECT_DEPLOYMENT": kept.id}
    for flags in ((), ("--new-deployment",)):
        line = refuse_to_serve(tmp_path / "pod-3", *flags, **wrong)
        assert "holds no deployment" in line
        assert "KEYWRIGHT_EXPECT_DEPLOYMENT" in line
        assert kept.id in line
        assert not (tmp_path / "pod-3").exists()
    other = {**variables, "KEYWRIGHT_EXPECT_DEPLOYMENT": "dply_of-somebody-else"}
    line = refuse_to_serve(tmp_path / "pod-4", **other)
    assert f"holds deployment {kept.id}" in line
    assert "dply_of-somebody-else" in line


def test_a_new_deployment_is_asked_for_by_a_flag_and_by_no_variable(kept: Kept) -> None:
    take_the_database_away(kept)
    variable = "_".join(("KEYWRIGHT", "NEW", "DEPLOYMENT"))
    assert kept.id in refuse_to_serve(kept.data, **{variable: "true"})

    with ServeProcess(kept.data, "--new-deployment", **VARIABLES).wait_until_ready() as served:
        assert "This is the first start" in served.output()
        assert (new_id := id_of(served)) != kept.id
        assert served.verdict(kept.key) == "UNKNOWN"
        assert served.stop() == 0
    with ServeProcess(kept.data, **VARIABLES).wait_until_ready() as again:
        assert id_of(again) == new_id


def test_a_first_start_that_was_broken_off_is_gone_on_with(kept: Kept) -> None:
    """The marker is written last: a database without one is not yet anybody's, and one that is full gets it."""
    no_marker(kept)
    no_replica(kept)
    with ServeProcess(kept.data).wait_until_ready() as served:
        assert served.verdict(kept.key) == "VALID"
    assert (kept.data / "deployment.id").read_text() == f"{kept.id}\n"


@pytest.mark.parametrize(
    "command",
    [
        ("migrate",),
        ("rotate-master-key",),
        ("snapshot", "export", "--out", "{tmp}/edge.snapshot"),
    ],
    ids=lambda command: command[0],
)
class TestACommandThatLooksAfterADeployment:
    def test_makes_no_directory_that_was_mistyped(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        arguments = [part.format(tmp=tmp_path) for part in command]
        done = run_command(*arguments, "--data-dir", str(tmp_path / "mistyped"), **SECRETS)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no deployment here yet" in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_makes_no_database_in_a_directory_of_something_else(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        arguments = [part.format(tmp=tmp_path) for part in command]
        (tmp_path / "photos").mkdir()
        done = run_command(*arguments, "--data-dir", str(tmp_path / "photos"), **SECRETS)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no deployment here yet" in done.stderr
        assert list((tmp_path / "photos").iterdir()) == []

    def test_refuses_a_database_of_another_deployment(self, kept: Kept, command: tuple[str, ...]) -> None:
        arguments = [part.format(tmp=kept.data.parent) for part in command]
        done = run_command(*arguments, "--data-dir", str(kept.data), KEYWRIGHT_EXPECT_DEPLOYMENT="dply_another")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"holds deployment {kept.id}" in done.stderr
        assert "dply_another" in done.stderr


def test_migrate_takes_an_empty_postgresql_and_makes_no_directory(tmp_path: Path, postgres: Postgres) -> None:
    """It may run as a job before the first origin does; but not where the data directory knows better."""
    done = run_command("migrate", "--data-dir", str(tmp_path / "none"), KEYWRIGHT_DATABASE_URL=postgres.new_database())
    assert "migrated from schema none" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_edge_without_a_pepper_makes_no_directory(tmp_path: Path) -> None:
    done = run_command(
        "edge", "--origin", "http://127.0.0.1:1", "--data-dir", str(tmp_path / "mistyped"),
        "--port", str(free_port()), KEYWRIGHT_EDGE_TOKEN="kwmk_d67b7e241bb948758f415b79aa8ec822_2efb7009",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "pepper.key is missing" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_worker_takes_nothing_of_a_record_that_was_exchanged_beneath_it(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts anew without `prepare`, which looks at the start of the service only."""
    settings = services.settings_for(tmp_path / "data", database_url)
    async with services.running(settings) as service:
        consumer = await service.new_consumer()
        key = (await service.new_key(consumer["name"]))["key"]
    database = Database(database_url)
    async with database.write() as tx:
        await tx.execute(sa.update(tables.deployment).values(id="dply_of-somebody-else"))
        await tx.execute(sa.delete(tables.keys))
    await database.close()

    worker = ServeWorker(settings)
    await worker.start()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=worker), base_url="http://keywright.test"
    ) as client:
        answer = await client.post(f"/v1/validate/{service.bucket}", json={"key": key})
        ready = await client.get("/readyz")
    await worker.stop()

    assert answer.json()["code"] == "VALID"
    assert ready.json()["synced"] is False, ready.json()
    assert "the database holds deployment dply_of-somebody-else" in caplog.text
