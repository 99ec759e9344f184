"""The gRPC endpoint beyond the table: what Envoy's protocol adds, the token of the gateway, and a start that fails."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from edge.world import DIGESTER, NOW, PEPPER_CHECK
from endpoints.table import BUCKET, VALID, fill
from keywright.domain.identity_headers import rename
from keywright.edge.grpc.ext_authz import METHOD, GrpcServer
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest, CheckResponse
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.runtime import server
from keywright.runtime.clock import Clock
from keywright.runtime.server import StartError
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield opened
    opened.close()


async def ask(
    validator: Validator, request: CheckRequest, method: str = METHOD, *, token: str = "", **options: Any
) -> CheckResponse:
    """One call to a real server on a port of its own."""
    port = free_port()
    running = GrpcServer(ForwardAuth(validator, **options), "127.0.0.1", port)
    await running.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                method,
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )
            metadata = (("keywright-token", token),) if token else ()
            answer: CheckResponse = await call(request, metadata=metadata, timeout=30)
            return answer
    finally:
        await running.stop()


def a_check(bucket: str | None = BUCKET, authorization: str = f"Bearer {VALID}") -> CheckRequest:
    request = CheckRequest()
    request.attributes.request.http.headers["authorization"] = authorization
    if bucket is not None:
        request.attributes.context_extensions["bucket"] = bucket
    return request


async def test_the_identity_is_in_the_headers_and_in_the_dynamic_metadata_and_the_key_goes(replica: Replica) -> None:
    fill(replica)
    response = await ask(Validator(replica, DIGESTER, clock=lambda: NOW), a_check())
    given = {option.header.key: option.header.value for option in response.ok_response.headers}
    assert list(response.ok_response.headers_to_remove) == ["authorization", "x-consumer-token"]
    metadata = response.dynamic_metadata
    assert metadata["consumer"]["name"] == given["x-consumer-name"] == "my-consumer"
    assert metadata["consumer"]["id"] == given["x-consumer-id"]
    assert metadata["key"]["id"] == given["x-key-id"]
    assert dict(metadata["data"]) == {"testId": "1234", "name": "Zoë"}


async def test_headers_may_have_other_names_and_the_metadata_stays_as_it_is(replica: Replica) -> None:
    fill(replica)
    names = rename(["X-Consumer-Name=X-User-Id", "X-Consumer-Token=X-Identity"], "authorization")
    response = await ask(Validator(replica, DIGESTER, clock=lambda: NOW), a_check(), identity_headers=names)
    given = {option.header.key: option.header.value for option in response.ok_response.headers}
    assert "x-consumer-name" not in given
    assert response.dynamic_metadata["consumer"]["name"] == given["x-user-id"] == "my-consumer"
    assert list(response.ok_response.headers_to_remove) == ["authorization", "x-identity"]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (a_check(authorization=f"Bearer {VALID},Bearer {VALID}"), 401, grpc.StatusCode.UNAUTHENTICATED),
        (a_check(bucket=None), 404, grpc.StatusCode.NOT_FOUND),
        (a_check(bucket="_system"), 404, grpc.StatusCode.NOT_FOUND),
        (CheckRequest(), 404, grpc.StatusCode.NOT_FOUND),
    ],
    ids=["joined-headers", "no-bucket-named", "system-bucket", "nothing"],
)
async def test_refusals(replica: Replica, request_: CheckRequest, status: int, code: grpc.StatusCode) -> None:
    fill(replica)
    response = await ask(Validator(replica, DIGESTER, clock=lambda: NOW), request_)
    assert (response.denied_response.status.code, response.status.code) == (status, code.value[0])


async def test_a_replica_without_a_snapshot_is_503_and_says_when_to_try_again(replica: Replica) -> None:
    response = await ask(Validator(replica, DIGESTER, Clock().millis), a_check())
    assert (response.denied_response.status.code, response.status.code) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
    assert {option.header.key: option.header.value for option in response.denied_response.headers}["retry-after"] == "1"


async def test_where_a_token_is_required_a_gateway_without_one_is_refused(replica: Replica) -> None:
    fill(replica)
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    for token in ("", "nobody-has-this-token", VALID):
        response = await ask(validator, a_check(), token_required=True, token=token)
        assert response.denied_response.status.code == 403


async def test_another_method_is_not_implemented(replica: Replica) -> None:
    with pytest.raises(aio.AioRpcError) as raised:
        await ask(Validator(replica, DIGESTER, Clock().millis), a_check(), "/envoy.service.auth.v3.Authorization/Other")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_committed_classes_are_what_the_proto_file_compiles_to(tmp_path: Path) -> None:
    proto = "keywright/edge/grpc/ext_authz.proto"
    compile_ = [sys.executable, "-m", "grpc_tools.protoc", "-I", "src", f"--python_out={tmp_path}"]
    subprocess.run([*compile_, f"--pyi_out={tmp_path}", f"src/{proto}"], cwd=ROOT, check=True)
    for name in ("ext_authz_pb2.py", "ext_authz_pb2.pyi"):
        made = (tmp_path / "keywright/edge/grpc" / name).read_text()
        assert made == (ROOT / "src/keywright/edge/grpc" / name).read_text()


def test_without_grpcio_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "grpc" else real(name))
    server.check_grpc("127.0.0.1", None)
    with pytest.raises(StartError, match=r"pip install 'keywright\[grpc\]'"):
        server.check_grpc("127.0.0.1", free_port())


def test_an_edge_without_a_grpc_port_loads_no_grpcio() -> None:
    told = "import sys, keywright.edge.worker, keywright.serve.worker; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
