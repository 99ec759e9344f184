"""What stands around what we deploy: an origin and an edge with all that can be measured, before a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from deploy.monitored import RULES, Monitored
from support import prometheus
from support.origin import Origin
from support.ports import free_port
from support.process import NO_TLS, EdgeProcess, until


@pytest.fixture(scope="module")
def monitored(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    directory = tmp_path_factory.mktemp("monitored")
    made = origin.api.new_consumer(apiKeys=[{}])
    key = made["apiKeys"][0]["key"]
    edge = EdgeProcess(
        directory / "edge", origin.url, origin.token, origin.pepper_file,
        "--haproxy", str(directory / "none.sock"), KEYWRIGHT_GRPC_PORT=str(free_port()),
    )  # fmt: skip
    with edge.wait_until_ready():
        until(lambda: edge.verdict(key) == "VALID")
        assert origin.served.verdict(key) == "VALID"
        assert edge.verdict("short") == "MALFORMED"
        # What an edge learns from the answers to its reports, and the origin by a look at them.
        until(lambda: all(name in scrape(edge.url) for name in ("keywright_clock_offset", "keywright_shares_age")), 30)
        until(lambda: 'keywright_edge_lag_seconds{edge="' in scrape(origin.url), 30)
        targets = {"origin": origin.url.removeprefix("http://"), "edge": edge.url.removeprefix("http://")}
        with prometheus.running(directory, targets, RULES) as server:
            yield Monitored(server, scrape(origin.url), scrape(edge.url))


def scrape(url: str) -> str:
    return httpx2.get(f"{url}/metrics", timeout=5, verify=NO_TLS).text
