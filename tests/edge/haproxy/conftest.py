"""A HAProxy for each module, and a replica with its mirror for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge.haproxy.mirror import Mirror
from edge.world import PEPPER_CHECK
from gateways.conftest import PEPPER
from gateways.gateway import HAPROXY, Gateway
from keywright.edge.haproxy import socket as haproxy_socket
from keywright.edge.haproxy.socket import Map
from keywright.edge.replica.replica import Replica


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("haproxy") / "gateway"
    with Gateway(
        HAPROXY, directory, api=1, edge=1, bucket="my-bucket", variables={"KEYWRIGHT_PEPPER": PEPPER}
    ) as running:
        yield running


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield opened
    opened.close()


@pytest.fixture
async def mirror(gateway: Gateway, replica: Replica) -> AsyncIterator[Mirror]:
    async with haproxy_socket.connect(gateway.directory / "haproxy.sock") as socket:
        for map_ in Map:
            await socket._ask(f"clear map {socket._ids[map_]}")
    running = Mirror(gateway, replica)
    yield running
    await running.stop()
