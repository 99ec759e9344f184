"""Long-lived gRPC connections, as Envoy's are, come to be spread over the workers of one service."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import grpc

from edge.grpc.test_ext_authz import a_check
from faults.server import children_of
from keywright.edge.grpc.ext_authz import METHOD
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest, CheckResponse
from support.ports import free_port
from support.process import ServeProcess

QUICK = """
from keywright.edge.grpc import ext_authz
ext_authz.MAX_CONNECTION_AGE_MS = 400
"""
ESTABLISHED = "01"


def serving(port: int, workers: list[int]) -> frozenset[int]:
    """Which workers have connections at a port."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode = line.split()[:10]
            if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{inode}]")
    found = set()
    for pid in workers:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(file.readlink()) in inodes:
                    found.add(pid)
    return frozenset(found)


def test_a_connection_that_is_never_closed_by_its_client_gets_to_every_worker(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(QUICK)
    port = free_port()
    arguments = ("--workers", "2", "--grpc-port", str(port))
    with (
        ServeProcess(tmp_path / "data", *arguments, PYTHONPATH=str(site)).wait_until_ready() as service,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        check = channel.unary_unary(
            METHOD, request_serializer=CheckRequest.SerializeToString, response_deserializer=CheckResponse.FromString
        )
        check(a_check(), timeout=30, wait_for_ready=True)
        workers = children_of(service.process.pid)
        seen: set[int] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 2 and time.monotonic() < deadline:
            # Not one of them may be lost on the way from one worker to another.
            check(a_check(), timeout=10)
            seen |= serving(port, workers)
            time.sleep(0.02)
        assert len(seen) == 2
