"""Owns the endpoint for Envoy over gRPC: envoy.service.auth.v3.Authorization/Check, on a port of its own.

The answers are forward_auth's, put into Envoy's messages (ext_authz.proto). What gRPC adds: the key is taken out of the
request, and the identity goes into dynamic metadata too, where other filters and access logs find it. The bucket is
named by the route, in the context extension `bucket`, with what else is demanded (edge/http/questions/question.py). The
client's address is that of the connection that Envoy asks about (edge/gateway_clients.py).

Needs grpcio and protobuf, which only those install who set a gRPC port; nothing else imports this file.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from keywright.domain import problems
from keywright.domain.problems import Problem
from keywright.edge.grpc.ext_authz_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    OkHttpResponse,
    Status,
)
from keywright.edge.http.endpoint import encode_json, no_bucket
from keywright.edge.http.forward_auth import MustWait
from keywright.edge.http.questions.question import parse_question
from keywright.http.client_address import grpc_peer
from keywright.http.sparing_log import SparingLog
from keywright.runtime.metrics.histogram import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from keywright.domain.networks import Address
    from keywright.domain.powers import FindAddress
    from keywright.domain.verdict import Result
    from keywright.edge.http.forward_auth import ForwardAuth
    from keywright.edge.http.validation_counts import ValidationCounts

_log = logging.getLogger(__name__)

METHOD = "/envoy.service.auth.v3.Authorization/Check"
STOP_SECONDS = 5.0
MAX_CHECKS_AT_ONCE = 10_000
"""On one connection, and of all that wait to be begun. A check is answered in well under a millisecond."""
OPTIONS = (
    ("grpc.so_reuseport", 1),
    # Envoy is told beforehand, so that no check is lost. The worker closes what has not gone soon after.
    ("grpc.max_connection_idle_ms", 45_000),
    # A client may send thousands before it has heard of a limit, and every one beyond it would be refused.
    ("grpc.max_concurrent_streams", MAX_CHECKS_AT_ONCE),
    # From the first of these on gRPC's core cancels some of the calls that wait to be begun, by lot: 1,000 by default.
    ("grpc.server.max_pending_requests", MAX_CHECKS_AT_ONCE),
    ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_CHECKS_AT_ONCE),
)
MAX_CONNECTION_AGE_MS = 300_000
"""Then a connection is given up, as gently: the next one goes to any worker, so that a few busy Envoys spread."""
MAX_CONNECTION_AGE_GRACE_MS = 30_000
_STRUCT_DEPTH = 28
"""Protobuf reads messages that are nested 100 deep; each object of a Struct takes three of them."""
_LARGEST_DOUBLE = int(sys.float_info.max)
_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
# Any code but OK refuses; these are the ones that gRPC has for such an answer.
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class ExtAuthz(grpc.GenericRpcHandler):
    """Answers Check by asking `forward_auth`, whose header, scheme and token are also this one's."""

    def __init__(
        self,
        forward_auth: ForwardAuth,
        on_check: Callable[[str], None] = lambda _: None,
        counts: ValidationCounts | None = None,
    ) -> None:
        self._forward_auth = forward_auth
        self._counts = counts or forward_auth.new_counts()
        self._on_check = on_check
        self._header = forward_auth.auth_header
        # Read in `_check`: what grpcio can't read it logs with a traceback, as often as a peer likes.
        self._handler: Any = grpc.unary_unary_rpc_method_handler(self._check, None, CheckResponse.SerializeToString)
        self._malformed_log = SparingLog(_log, time.monotonic)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler if handler_call_details.method == METHOD else None

    def check(
        self, request: CheckRequest, tokens: Iterable[bytes] = (), peer: str = "", settled: Result | None = None
    ) -> CheckResponse:
        """`tokens` are the values of the caller's own `keywright-token`, `peer` is its connection, as gRPC tells it.

        Raises MustWait: then it is asked again with what that was `settled` to.
        """
        try:
            identity, fields = self._identify(request, tokens, partial(self._find_client, request, peer), settled)
        except Problem as problem:
            return _denied(problem)
        given = [(name.decode(), value.decode()) for name, value in identity]
        # Envoy drops headers without a value and so would leave a client's own in place.
        empty = [name for name, value in given if not value]
        response = CheckResponse(
            status=Status(code=0),
            ok_response=OkHttpResponse(
                headers=[_header(name, value) for name, value in given if value],
                headers_to_remove=[self._header, *empty],
                response_headers_to_add=[_header(name.decode(), value.decode()) for name, value in fields],
            ),
        )
        response.dynamic_metadata.update(_to_metadata(identity))
        return response

    async def _check(self, data: bytes, context: aio.ServicerContext[bytes, CheckResponse]) -> Any:
        began = now_ns()
        self._on_check(context.peer())
        try:
            request = CheckRequest.FromString(data)
        except DecodeError:
            self._malformed_log.note(f"a message that is no CheckRequest came from {context.peer()}")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is no CheckRequest")
        metadata = context.invocation_metadata() or ()
        tokens = [str(value).encode() for name, value in metadata if name == "keywright-token"]
        try:
            try:
                response = self.check(request, tokens, context.peer())
            except MustWait as waiting:
                response = self.check(request, tokens, context.peer(), await waiting.settled)
        except Exception:
            self._counts.failures += 1
            raise
        self._counts.latency.observe_since(began)
        return response

    def _find_client(self, request: CheckRequest, peer: str) -> Address | None:
        gateway = grpc_peer(peer)
        return self._forward_auth.clients.find_behind(
            gateway[0] if gateway is not None else "",
            request.attributes.source.address.socket_address.address,
            lambda name: [value.decode("latin-1") for value in _values(request, name)],
        )

    def _identify(
        self,
        request: CheckRequest,
        tokens: Iterable[bytes],
        find_address: FindAddress,
        settled: Result | None,
    ) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
        text = request.attributes.context_extensions.get("bucket")
        if text is None:
            raise no_bucket()
        question = parse_question(text)
        headers = [(b"keywright-token", token) for token in tokens]
        self._forward_auth.require_token({"headers": headers}, question.bucket)
        values = list(_values(request, self._header))
        return self._forward_auth.judge(question, values, find_address, self._counts, settled)


def _values(request: CheckRequest, name: str) -> Iterable[bytes]:
    """Every header of this name. Without `encode_raw_headers` Envoy joins several by a comma, which is in no key."""
    asked = request.attributes.request.http
    if asked.header_map.headers:
        for header in asked.header_map.headers:
            if header.key == name:
                yield header.raw_value or header.value.encode()
    elif name in asked.headers:
        yield asked.headers[name].encode()


def _denied(problem: Problem) -> CheckResponse:
    code = _CODES.get(problem.status, grpc.StatusCode.UNAVAILABLE)
    headers = {"content-type": problems.CONTENT_TYPE, "cache-control": "no-store", **problem.headers}
    return CheckResponse(
        status=Status(code=code.value[0]),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=problem.status),
            headers=[_header(name, value) for name, value in headers.items()],
            body=encode_json(problem.to_document()).decode(),
        ),
    )


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=_OVERWRITE)


def _to_metadata(identity: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    name, consumer_id, key_id, data, _ = (value for _, value in identity[:5])
    return {
        "consumer": {"name": name.decode(), "id": consumer_id.decode()},
        "key": {"id": key_id.decode()},
        "data": _to_struct(json.loads(unquote_to_bytes(data)), _STRUCT_DEPTH),
    }


def _to_struct(value: Any, depth: int) -> Any:
    """JSON as a Struct has it, whose numbers are doubles. What it can't carry is text: the JSON of that value."""
    match value:
        case dict() | list() if depth == 0:
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        case dict():
            return {name: _to_struct(one, depth - 1) for name, one in value.items()}
        case list():
            return [_to_struct(one, depth - 1) for one in value]
        case int() if abs(value) > _LARGEST_DOUBLE:
            return str(value)
    return value


class GrpcServer:
    """One worker's gRPC server; the workers share the port."""

    def __init__(
        self,
        forward_auth: ForwardAuth,
        host: str,
        port: int,
        on_check: Callable[[str], None] = lambda _: None,
        counts: ValidationCounts | None = None,
    ) -> None:
        self._handler = ExtAuthz(forward_auth, on_check, counts)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: aio.Server | None = None

    async def start(self) -> None:
        # Made here: a server of grpc.aio belongs to the loop that runs when it is made.
        self._server = aio.server(
            options=(
                *OPTIONS,
                ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", MAX_CONNECTION_AGE_GRACE_MS),
            )
        )
        self._server.add_generic_rpc_handlers((self._handler,))
        self._server.add_insecure_port(self._address)
        await self._server.start()
        _log.info("Authorization/Check over gRPC on %s", self._address)

    async def stop(self) -> None:
        """Let checks that are under way finish."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
