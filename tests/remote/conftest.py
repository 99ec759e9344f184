"""An origin, a line to it that can be spoilt, and an edge behind that, all of them real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.process import NO_TLS, EdgeProcess, ServeProcess, until
from support.proxy import Proxy

ROOT_KEY = "root-key-of-the-tested-deployment"
BUCKETS = "/v1/accounts/my-account/key-buckets"
BUCKET = "my-project-production"


class Origin:
    """A real origin on a fixed port, with what tests do to it."""

    def __init__(self, data_dir: Path, *arguments: str, **variables: str) -> None:
        self.data_dir = data_dir
        self._arguments, self._variables = arguments, variables
        self.process = self._new(None)
        self.client = httpx2.Client(
            base_url=self.process.url, headers={"authorization": f"Bearer {ROOT_KEY}"}, timeout=10, verify=NO_TLS
        )
        self.call("POST", f"{BUCKETS}/{BUCKET}/consumers", json={"name": "one"})
        made = self.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})
        self.token, self.token_id = made["key"], made["id"]

    @property
    def pepper_file(self) -> Path:
        return self.data_dir / "pepper.key"

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self.client.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def new_key(self) -> dict[str, Any]:
        made: dict[str, Any] = self.call("POST", f"{BUCKETS}/{BUCKET}/consumers/one/keys", json={})
        return made

    def revoke(self, key: dict[str, Any], query: str = "") -> httpx2.Response:
        answer = self.client.delete(f"{BUCKETS}/{BUCKET}/consumers/one/keys/{key['id']}?{query}")
        assert answer.status_code == 204, answer.text
        return answer

    @property
    def revision(self) -> int:
        return int(self.process.get("/readyz")["revision"])

    def restart(self) -> None:
        self.process = self._new(self.process.port)

    def _new(self, port: int | None) -> ServeProcess:
        variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0", **self._variables}
        return ServeProcess(self.data_dir, *self._arguments, port=port, **variables).wait_until_ready()


FOLLOW = {"account": "none", "buckets": {"*": "validate"}, "feed": True}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    made = Origin(tmp_path / "origin")
    yield made
    made.client.close()
    made.process.kill()


@pytest.fixture
def proxy(origin: Origin) -> Iterator[Proxy]:
    with Proxy(origin.process.port) as running:
        yield running


@pytest.fixture
def new_edge(origin: Origin, proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., EdgeProcess]]:
    """Starts an edge behind the proxy, each time on the same data directory."""
    started: list[EdgeProcess] = []

    def start(*arguments: str, token: str | None = None, pepper_file: Path | None = None) -> EdgeProcess:
        pepper = pepper_file or origin.pepper_file
        started.append(EdgeProcess(tmp_path / "edge", proxy.url, token or origin.token, pepper, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def fleet(origin: Origin, proxy: Proxy, tmp_path: Path) -> Iterator[Callable[..., EdgeProcess]]:
    """Starts edges, each with a directory of its own, following the origin or what stands before it."""
    from remote.fleet import state_of

    started: list[EdgeProcess] = []

    def start(name: str, *arguments: str, url: str | None = None) -> EdgeProcess:
        edge = EdgeProcess(
            tmp_path / name,
            url or origin.process.url,
            origin.token,
            origin.pepper_file,
            *arguments,
            KEYWRIGHT_EDGE_NAME=name,
            KEYWRIGHT_REGION="test-1",
        )
        started.append(edge)
        edge.wait_until_ready()
        until(lambda: state_of(origin, name) == (True, "synced"))
        return edge

    yield start
    for one in started:
        # A process that is paused can't be waited for.
        one.kill()
