"""The gRPC server under what one peer may do: many checks at once, an old connection, and what is no check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from edge.grpc.test_ext_authz import a_check, replica
from edge.world import DIGESTER, NOW
from endpoints.table import fill
from keywright.edge.grpc import ext_authz
from keywright.edge.grpc.ext_authz import METHOD, GrpcServer
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest, CheckResponse
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from support.ports import free_port

__all__ = ["replica"]


@asynccontextmanager
async def connected(replica: Replica, seen: set[str]) -> AsyncIterator[aio.Channel]:
    fill(replica)
    port = free_port()
    running = GrpcServer(ForwardAuth(Validator(replica, DIGESTER, clock=lambda: NOW)), "127.0.0.1", port, seen.add)
    await running.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await running.stop()


def check_over(channel: aio.Channel) -> aio.UnaryUnaryMultiCallable[CheckRequest, CheckResponse]:
    return channel.unary_unary(
        METHOD, request_serializer=CheckRequest.SerializeToString, response_deserializer=CheckResponse.FromString
    )


async def test_2000_checks_at_once_on_one_connection_all_get_answers(replica: Replica) -> None:
    seen: set[str] = set()
    async with connected(replica, seen) as channel:
        ask = check_over(channel)
        answers = await asyncio.gather(*(ask(a_check(), timeout=30) for _ in range(2000)))
    assert {answer.status.code for answer in answers} == {0}
    assert len(seen) == 1


async def test_a_connection_has_a_greatest_age_and_no_check_is_lost_for_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ext_authz, "MAX_CONNECTION_AGE_MS", 300)
    seen: set[str] = set()
    async with connected(replica, seen) as channel:
        ask = check_over(channel)
        async with asyncio.timeout(10):
            while len(seen) < 3:
                answers = await asyncio.gather(*(ask(a_check(), timeout=10) for _ in range(20)))
                assert {answer.status.code for answer in answers} == {0}


async def test_what_is_no_check_is_refused_and_logged_in_one_line_a_minute(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(replica, set()) as channel:
        ask = channel.unary_unary(METHOD)
        for number in range(20):
            with pytest.raises(aio.AioRpcError) as raised:
                await ask(b"\xff\xff\xff" + bytes([number]), timeout=10)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await check_over(channel)(a_check(), timeout=10)).status.code == 0
    lines = [line for line in caplog.records if line.levelname in ("WARNING", "ERROR")]
    assert len(lines) == 1
    assert lines[0].exc_info is None
