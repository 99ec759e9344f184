"""Several origin processes on one PostgreSQL, each on a machine of its own, behind any load balancer: one service."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keywright.domain.keyformat import Digester
from keywright.origin.db.transaction import Database
from remote.conftest import BUCKET, BUCKETS, FOLLOW, ROOT_KEY
from support.postgres import Postgres
from support.process import NO_TLS, EdgeProcess, ServeProcess, until
from support.proxy import Proxy
from support.record import replica_of, seen_by_account, snapshot_of

pytestmark = pytest.mark.long(45)

ORIGINS = 3
KEYS = f"{BUCKETS}/{BUCKET}/consumers/one/keys"


class Cluster:
    """Three origins, a balancer for requests, one for the edge, and the edge."""

    def __init__(self, base: Path, postgres: Postgres, stack: ExitStack) -> None:
        self.url = postgres.new_database()
        pepper = secrets.token_bytes(32)
        self.digester = Digester(pepper)
        pepper_file = base / "pepper.key"
        pepper_file.write_text(base64.b64encode(pepper).decode())
        pepper_file.chmod(0o600)
        variables = {
            "KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY,
            "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0",
            "KEYWRIGHT_PEPPER_FILE": str(pepper_file),
            "KEYWRIGHT_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "KEYWRIGHT_DATABASE_URL": self.url,
        }
        self.data_dirs = [base / f"origin-{number}" for number in range(ORIGINS)]
        self.origins = [stack.enter_context(ServeProcess(directory, **variables)) for directory in self.data_dirs]
        for origin in self.origins:
            origin.wait_until_ready(60)
        ports = [origin.port for origin in self.origins]
        self.balancer, self.edge_line = (stack.enter_context(Proxy(*ports)) for _ in range(2))
        self.call("POST", f"{BUCKETS}/{BUCKET}/consumers", json={"name": "one"})
        token = self.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})["key"]
        self.data_dirs.append(base / "edge")
        self.edge = stack.enter_context(EdgeProcess(base / "edge", self.edge_line.url, token, pepper_file))
        self.edge.wait_until_ready(60)

    @property
    def planes(self) -> list[ServeProcess]:
        """Everything that validates."""
        return [*self.origins, self.edge]

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """On a connection of its own, so at the next origin."""
        headers = {"authorization": f"Bearer {ROOT_KEY}", "connection": "close"}
        return httpx2.request(
            method, f"{self.balancer.url}{path}", headers=headers, timeout=30, verify=NO_TLS, **options
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def new_key(self) -> dict[str, Any]:
        made: dict[str, Any] = self.call("POST", KEYS, json={})
        return made

    def is_everywhere(self, key: dict[str, Any], verdict: str) -> bool:
        return all(plane.verdict(key["key"]) == verdict for plane in self.planes)

    def assert_equal_to_the_record(self) -> None:
        """Every replica, as soon as all are in step."""

        async def record() -> Any:
            database = Database(self.url)
            try:
                return await snapshot_of(database)
            finally:
                await database.close()

        until(lambda: all(plane.get("/readyz")["synced"] for plane in self.planes), timeout=60)
        until(lambda: len({plane.get("/readyz")["revision"] for plane in self.planes}) == 1, timeout=60)
        expected = asyncio.run(record())
        for directory in self.data_dirs:
            seen = seen_by_account(expected) if directory.name == "edge" else expected
            assert replica_of(directory, self.digester) == seen, directory


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), postgres, stack)


class Load:
    """Makes and revokes keys through the balancer from several threads until it is left."""

    def __init__(self, cluster: Cluster, threads: int = 3) -> None:
        self.valid: list[dict[str, Any]] = []
        self.revoked: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.odd: list[str] = []
        self._cluster = cluster
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            key = self._ask("POST", KEYS)
            if key is None:
                continue
            # In neither list while nobody can say.
            if number % 2 == 0:
                self.valid.append(key)
            elif self._ask("DELETE", f"{KEYS}/{key['id']}") is not None:
                self.revoked.append(key)

    def _ask(self, method: str, path: str) -> dict[str, Any] | None:
        answer = self._cluster.request(method, path, **({"json": {}} if method == "POST" else {}))
        self.statuses.append(answer.status_code)
        if answer.is_success:
            return answer.json() if answer.content else {}
        if answer.status_code != 503 or "application/problem+json" not in answer.headers["content-type"]:
            self.odd.append(answer.text)
        return None

    def assert_kept(self) -> None:
        """What was answered for holds everywhere."""
        for keys, verdict in ((self.valid, "VALID"), (self.revoked, "UNKNOWN")):
            assert keys
            for plane in self._cluster.planes:
                assert {plane.verdict(key["key"]) for key in keys[-20:]} == {verdict}


def test_a_change_at_any_origin_holds_at_every_other_one_and_at_the_edge(cluster: Cluster) -> None:
    for _ in range(2 * ORIGINS):
        key = cluster.new_key()
        until(lambda key=key: cluster.is_everywhere(key, "VALID"))  # type: ignore[misc]
        # Each request lands on the next origin: the one that revokes is not the one that made it.
        cluster.call("DELETE", f"{KEYS}/{key['id']}")
        until(lambda key=key: cluster.is_everywhere(key, "UNKNOWN"))  # type: ignore[misc]


def test_an_edge_that_goes_from_origin_to_origin_while_all_of_them_write_misses_nothing(cluster: Cluster) -> None:
    revision = 0
    with Load(cluster) as load:
        for _ in range(6):
            connections = cluster.edge_line.connections
            cluster.edge_line.cut()
            cluster.edge_line.heal()
            until(lambda seen=connections: cluster.edge_line.connections > seen, timeout=60)  # type: ignore[misc]
            reached = cluster.edge.get("/readyz")["revision"]
            assert reached >= revision
            revision = reached
            wanted = revision + 10
            until(lambda wanted=wanted: cluster.edge.get("/readyz")["revision"] >= wanted, timeout=60)  # type: ignore[misc]
    assert load.odd == []
    assert set(load.statuses) <= {200, 204}
    cluster.assert_equal_to_the_record()
    load.assert_kept()
    # Changes that followed each other at different origins: never a gap, and never a snapshot for one.
    assert cluster.edge.output().count("a new snapshot is needed") == 0


def test_a_database_that_is_killed_under_load_costs_errors_for_its_absence_and_nothing_after(
    cluster: Cluster, postgres: Postgres
) -> None:
    key = cluster.new_key()
    until(lambda: cluster.is_everywhere(key, "VALID"))
    with Load(cluster) as load:
        until(lambda: len(load.valid) > 10, timeout=60)
        postgres.stop(signal.SIGKILL)
        try:
            until(lambda: load.statuses[-6:].count(503) == 6, timeout=60)
            assert {plane.verdict(key["key"]) for plane in cluster.planes} == {"VALID"}
        finally:
            postgres.start()
        until(lambda: set(load.statuses[-12:]) <= {200, 204}, timeout=60)
        is_back = len(load.statuses)
        until(lambda: len(load.statuses) > is_back + 60, timeout=60)
    assert set(load.statuses[is_back:]) <= {200, 204}
    assert load.odd == []
    cluster.assert_equal_to_the_record()
    load.assert_kept()
    assert [told for plane in cluster.planes for told in plane.output().split("Traceback")[1:]] == []


def test_a_database_that_fails_over_without_its_last_commits_is_noticed_by_everyone(
    cluster: Cluster, postgres: Postgres
) -> None:
    kept, revoked = cluster.new_key(), cluster.new_key()
    until(lambda: cluster.is_everywhere(revoked, "VALID"))
    postgres.save()
    until(lambda: cluster.request("GET", KEYS.removesuffix("/keys")).is_success, timeout=60)
    lost = [cluster.new_key() for _ in range(3)]
    until(lambda: cluster.is_everywhere(lost[-1], "VALID"))
    postgres.fail_over()
    until(lambda: cluster.request("DELETE", f"{KEYS}/{revoked['id']}").status_code in {204, 404}, timeout=60)
    made = [cluster.new_key() for _ in range(6)]
    until(lambda: cluster.is_everywhere(made[-1], "VALID"), timeout=60)
    for keys, verdict in ((lost, "UNKNOWN"), ([revoked], "UNKNOWN"), ([kept, *made], "VALID")):
        assert all(cluster.is_everywhere(key, verdict) for key in keys), json.dumps(verdict)
    cluster.assert_equal_to_the_record()
    assert all("new snapshot is needed" in plane.output() for plane in cluster.planes)
