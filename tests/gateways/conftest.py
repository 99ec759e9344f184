"""What stands around a gateway under test: the API behind it, and a real edge that holds the table's keys."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import pytest

from edge.world import DIGESTER
from endpoints import table
from gateways.gateway import KINDS, Edits, Gateway, Kind, with_key
from gateways.upstream import Upstream
from keywright.edge.replica.replica import Replica
from support.ports import free_port
from support.process import ServeProcess, until

PEPPER = base64.b64encode(b"pepper of the tests, 32 bytes ok").decode()
HOUR = 3600_000
KNOWN_KEYS = {table.BUCKET: table.VALID, "other-bucket": table.FOREIGN}


class TableEdge(ServeProcess):
    """`keywright edge` on a replica that holds the table. Its origin is away for good, which an edge can do without."""

    command = "edge"

    def __init__(self, data_dir: Path, *arguments: str, port: int | None = None, **variables: str) -> None:
        self.grpc_port = free_port()
        given = {
            "KEYWRIGHT_ORIGIN_URL": f"http://127.0.0.1:{free_port()}",
            "KEYWRIGHT_EDGE_TOKEN": "token-of-an-edge-without-an-origin",
            "KEYWRIGHT_PEPPER": PEPPER,
            "KEYWRIGHT_GRPC_PORT": str(self.grpc_port),
            "KEYWRIGHT_IDENTITY_TOKEN_SECONDS": "60",
        }
        super().__init__(data_dir, *arguments, port=port, **{**given, **variables})


def fill_with_table(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700)
    replica = Replica.open(data_dir / "replica", DIGESTER.pepper_check())
    table.fill(replica, now=time.time_ns() // 1_000_000, still=HOUR)
    replica.close()


def start_all(
    stack: ExitStack,
    directory: Path,
    upstream: Upstream,
    edits: Callable[[Kind], Edits],
    *,
    of_gateways: Mapping[str, str] = MappingProxyType({}),
    **variables: str,
) -> tuple[dict[Kind, Gateway], TableEdge]:
    """Every gateway, with these edits, before one edge that holds the table; all of them are killed with the stack."""
    fill_with_table(directory / "data")
    edge = TableEdge(directory / "data", "--haproxy", str(directory / "haproxy/haproxy.sock"), **variables)
    stack.callback(edge.kill)
    gateways = {
        kind: stack.enter_context(
            Gateway(
                kind, directory / kind.name, api=upstream.port, edge=edge.port, grpc=edge.grpc_port,
                bucket=table.BUCKET, edits=edits(kind), variables={"KEYWRIGHT_PEPPER": PEPPER, **of_gateways},
            )
        )
        for kind in KINDS
    }  # fmt: skip
    edge.wait_until_ready()
    for gateway in gateways.values():
        until(lambda gateway=gateway: gateway.ask("GET", "/").status == 401, 60)
    return gateways, edge


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.close()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableEdge]:
    data_dir = tmp_path_factory.mktemp("edge") / "data"
    fill_with_table(data_dir)
    with TableEdge(data_dir) as running:
        yield running.wait_until_ready()


@pytest.fixture(scope="module")
def new_gateway(
    upstream: Upstream, edge: TableEdge, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway before the API and the edge, and keeps it for the tests of this module that want the same.

    A gateway that is its own judge gets an edge of its own, which keeps its maps.
    """
    started: dict[object, Gateway] = {}
    keepers: list[TableEdge] = []

    def start(kind: Kind, *, bucket: str = table.BUCKET, edits: Edits = ()) -> Gateway:
        wanted = (kind.name, bucket, tuple(edits))
        if wanted not in started:
            directory = tmp_path_factory.mktemp(kind.name) / "gateway"
            gateway = started[wanted] = Gateway(
                kind,
                directory,
                api=upstream.port,
                edge=edge.port,
                grpc=edge.grpc_port,
                bucket=bucket,
                edits=edits,
                variables={"KEYWRIGHT_PEPPER": PEPPER},
            )
            if kind.is_own_judge:
                fill_with_table(directory.with_name("data"))
                keepers.append(TableEdge(directory.with_name("data"), "--haproxy", str(directory / "haproxy.sock")))
                until(lambda: "filled HAProxy" in keepers[-1].output(), 60)
                secret = KNOWN_KEYS.get(bucket)
                if secret is not None:
                    until(lambda: gateway.ask("GET", "/", with_key(secret)).status == 200, 60)
        return started[wanted]

    yield start
    for running in (*keepers, *started.values()):
        running.kill()
