"""The remote source: whatever an edge does instead of giving a verdict, nobody is let in and nobody is told no."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import struct
import time
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from edge.asgi import call
from keywright.domain.networks import parse_address
from keywright.domain.powers import Demand
from keywright.domain.problems import CONTENT_TYPE
from keywright.domain.verdict import Verdict
from keywright.policy import generic
from keywright.policy.asgi import ApiKeyPolicy
from keywright.policy.remote import LARGEST_ANSWER, RemoteEdge
from keywright.policy.rules.gate import Refused
from keywright.policy.rules.identity import User
from support.http import serving
from support.ports import free_port

SECRET = "zpka_of_a_consumer"
GOOD: dict[str, Any] = {
    "valid": True,
    "code": "VALID",
    "user": {"sub": "acme", "data": {"plan": "gold", "name": "Zoë"}},
    "consumer": {"id": "csmr_1", "name": "acme"},
    "key": {"id": "key_1", "expiresOn": "2100-01-01T00:00:00.000Z", "metadata": {"device": "till"}},
    "scopes": ["a", "orders:*"],
}
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def answering(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def verdicts(url: str, **options: Any) -> list[str]:
    """What threads and event loops are told."""
    remote = RemoteEdge(url, **{"timeout_seconds": 10, **options})

    async def ask() -> str:
        try:
            return str((await remote.validate_async(SECRET, "my-bucket")).verdict)
        finally:
            await remote.close_async()

    return [str(remote.validate(SECRET, "my-bucket").verdict), asyncio.run(ask())]


def reset(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def half(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"valid":true')
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(LARGEST_ANSWER // 65536 + 100):
        handler.wfile.write(b" " * 65536)
    handler.close_connection = True


def without(*path: str) -> bytes:
    document = json.loads(json.dumps(GOOD))
    *parents, last = path
    place = document
    for name in parents:
        place = place[name]
    del place[last]
    return json.dumps(document).encode()


def with_(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


BAD = {
    "500": answering(json.dumps(GOOD).encode(), 500),
    "503": answering(b"{}", 503),
    "403": answering(b"{}", 403),
    "201": answering(json.dumps(GOOD).encode(), 201),
    "404 of something else": answering(b"nothing here", 404),
    "connection reset": reset,
    "half an answer": half,
    "an endless answer": endless,
    "nothing": answering(b""),
    "html": answering(b"<html>please log in</html>"),
    "another object": answering(b"{}"),
    "a list": answering(b"[true]"),
    "true": answering(b"true"),
    "nested deeply": answering(b"[" * 100_000),
    "not UTF-8": answering(b'{"valid":true,"code":"\xff"}'),
    "valid is a text": answering(with_(valid="true")),
    "valid is 1": answering(with_(valid=1)),
    "valid with another code": answering(with_(code="EXPIRED")),
    "refused with code VALID": answering(with_(valid=False)),
    "a code of tomorrow": answering(b'{"valid":false,"code":"TIRED"}'),
    "no consumer": answering(without("consumer")),
    "no key id": answering(without("key", "id")),
    "no sub": answering(without("user", "sub")),
    "sub is no text": answering(with_(user={"sub": None, "data": {}})),
    "data is no object": answering(with_(user={"sub": "acme", "data": []})),
    "no moment": answering(with_(key={"id": "key_1", "expiresOn": "soon"})),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_an_answer_that_is_no_verdict_is_none(answer: Answer) -> None:
    with serving(answer) as url:
        assert verdicts(url) == ["UNAVAILABLE"] * 2


def test_nobody_there_is_no_verdict() -> None:
    assert verdicts(f"http://127.0.0.1:{free_port()}") == ["UNAVAILABLE"] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    asked: list[str] = []

    def elsewhere(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(handler.path)
        answering(json.dumps(GOOD).encode())(handler, body)

    with serving(elsewhere) as other, serving(answering(b"", status, location=f"{other}/v1/validate/x")) as url:
        assert verdicts(url) == ["UNAVAILABLE"] * 2
    assert asked == []


def test_an_edge_that_is_slow_is_waited_for_no_longer_than_said() -> None:
    def dripping(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        # Each piece comes soon enough; all of them don't.
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    def silent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        time.sleep(60)

    for answer in (dripping, silent):
        with serving(answer) as url:
            started = time.monotonic()
            assert verdicts(url, timeout_seconds=0.3) == ["UNAVAILABLE"] * 2
            # Both together; far from what the edge would have taken.
            assert time.monotonic() - started < 20


def test_a_verdict_comes_with_the_whole_identity() -> None:
    seen: list[Any] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, handler.headers["keywright-token"], handler.headers["authorization"], body))
        answering(json.dumps(GOOD).encode())(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(f"{url}/", token="a-management-key")
        result = remote.validate(SECRET, "my bucket/..")
        remote.close()
    assert result.key is not None
    assert result.consumer is not None
    assert (result.verdict, result.key.key_id, result.key.expires_at) == (Verdict.VALID, "key_1", 4102444800000)
    assert (result.consumer.name, result.consumer.consumer_id) == ("acme", "csmr_1")
    assert json.loads(result.consumer.metadata) == {"plan": "gold", "name": "Zoë"}
    user = User("", b"{}", "", "", (result.key.powers, result.consumer.powers))
    assert (user.scopes, user.key_metadata) == (("a", "orders:*"), {"device": "till"})
    body = json.dumps({"key": SECRET}).encode()
    assert seen == [("/v2/validate/my%20bucket%2F..", "a-management-key", None, body)]


def test_what_is_demanded_is_asked_along() -> None:
    seen: list[Any] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.path, json.loads(body)))
        answering(b'{"valid":false,"code":"IP_NOT_ALLOWED"}')(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        demands = (Demand(("a", "b")), Demand(("a",), parse_address("::ffff:192.0.2.7")), Demand((), lambda: None))
        assert {remote.validate(SECRET, "b", demand).verdict for demand in demands} == {Verdict.IP_NOT_ALLOWED}
        remote.close()
    asked = ({"scopes": ["a", "b"]}, {"scopes": ["a"], "ip": "192.0.2.7"}, {})
    assert seen == [("/v2/validate/b", {"key": SECRET, **more}) for more in asked]


OLD = {"type": "about:blank", "status": 404, "detail": "There is nothing at this address."}
"""What the edge of 38f0c79 answers at /v2."""


async def test_an_edge_of_before_says_whether_a_key_is_good_and_never_what_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append(handler.path[:3])
        if handler.path.startswith("/v2"):
            answering(json.dumps(OLD).encode(), 404, **{"content-type": CONTENT_TYPE})(handler, body)
        else:
            v1 = {**GOOD, "key": {"id": "key_1", "expiresOn": None}}
            del v1["scopes"]
            answering(json.dumps(v1).encode())(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        policy = generic.ApiKeyPolicy(remote, bucket_name="b", allow_unauthenticated_requests=True)
        headers = {"authorization": f"Bearer {SECRET}"}
        for _ in range(2):
            user, _, refusal = await policy.check(headers)
            assert (refusal, user.sub, user.scopes) == (None, "acme", ())
            for scopes, address in ((["a"], None), ([], "192.0.2.7")):
                _, _, refusal = await policy.check(headers, scopes=scopes, address=address)
                assert refusal is not None
                assert (refusal.status, refusal.code) == (503, "UNAVAILABLE")
            # As a decorator asks, of whom it finds let in.
            with pytest.raises(Refused) as refused:
                policy._gate.require(user, ("a",))
            assert refused.value.problem.status == 503
        await remote.close_async()
    # It is not asked in vain for each request whose answer /v1 has.
    assert seen == ["/v2", "/v1", "/v2", "/v2", "/v1", "/v2", "/v2"]
    assert "it has no /v2/validate" in caplog.text
    assert SECRET not in caplog.text


def test_connections_are_kept_and_one_that_the_edge_has_closed_costs_nothing() -> None:
    ports: list[int] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        ports.append(handler.client_address[1])
        answering(b'{"valid":false,"code":"UNKNOWN"}')(handler, body)
        # Without a word, as a restart does it.
        handler.close_connection = len(ports) == 2

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        assert {remote.validate(SECRET, "my-bucket").verdict for _ in range(4)} == {Verdict.UNKNOWN}
        remote.close()
    assert ports[0] == ports[1] != ports[2] == ports[3]


def test_a_kept_connection_that_breaks_under_a_question_is_asked_again_on_another() -> None:
    seen: list[bytes] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append(body)
        # One question of a thread, and one of an event loop, meets an edge that goes away just then.
        if len(seen) in (2, 5):
            reset(handler, body)
        else:
            answering(b'{"valid":false,"code":"UNKNOWN"}')(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        assert [remote.validate(SECRET, "my-bucket").verdict for _ in range(2)] == [Verdict.UNKNOWN] * 2
        remote.close()
        assert verdicts(url) == ["UNKNOWN"] * 2
    assert len(seen) == 6


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_asks_on_connections_of_its_own_and_leaves_the_parents_alone() -> None:
    ports: list[int] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        ports.append(handler.client_address[1])
        answering(b'{"valid":false,"code":"UNKNOWN"}')(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        assert remote.validate(SECRET, "my-bucket").verdict is Verdict.UNKNOWN
        child = os.fork()
        if child == 0:
            found = [remote.validate(SECRET, "my-bucket").verdict for _ in range(2)]
            remote.close()
            os._exit(0 if found == [Verdict.UNKNOWN] * 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert remote.validate(SECRET, "my-bucket").verdict is Verdict.UNKNOWN
        remote.close()
    assert ports[0] == ports[3] != ports[1] == ports[2]


def test_loops_that_have_ended_leave_no_connections_behind() -> None:
    with serving(answering(b'{"valid":false,"code":"UNKNOWN"}')) as url:
        remote = RemoteEdge(url, timeout_seconds=10)

        async def ask() -> Verdict:
            return (await remote.validate_async(SECRET, "my-bucket")).verdict

        with warnings.catch_warnings():
            # Of connections that nobody has closed, in loops that nobody can run any more.
            warnings.simplefilter("ignore", ResourceWarning)
            assert {asyncio.run(ask()) for _ in range(5)} == {Verdict.UNKNOWN}
            assert len(remote._of_loops) == 1
            remote._of_loops.clear()
            gc.collect()


def test_an_edge_that_says_408_on_a_kept_connection_is_asked_again_on_another() -> None:
    asked: list[int] = []

    def edge(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(handler.client_address[1])
        late = len(asked) in (2, 5)
        answering(b'{"valid":false,"code":"UNKNOWN"}', 408 if late else 200)(handler, body)

    with serving(edge) as url:
        remote = RemoteEdge(url, timeout_seconds=10)
        assert [remote.validate(SECRET, "my-bucket").verdict for _ in range(2)] == [Verdict.UNKNOWN] * 2
        remote.close()
        assert verdicts(url) == ["UNKNOWN"] * 2
    assert asked[0] == asked[1] != asked[2]


async def test_the_policy_answers_503_whatever_is_wrong_and_says_so_once_without_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called = []

    async def app(*_: Any) -> None:
        called.append(1)

    remote = RemoteEdge(f"http://127.0.0.1:{free_port()}", timeout_seconds=10)
    policy = ApiKeyPolicy(app, remote, bucket_name="my-bucket", allow_unauthenticated_requests=True)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            answer = await call(policy, "GET", "/", headers=[(b"authorization", f"Bearer {SECRET}".encode())])
            assert (answer.status, answer.headers["content-type"]) == (503, CONTENT_TYPE)
            assert answer.headers["retry-after"] == "1"
    await remote.close_async()
    assert called == []
    assert len([record for record in caplog.records if record.name == "keywright.policy.remote"]) == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["", "edge", "ftp://edge", "http://", "http://user:password@edge", "http://edge/?a=1"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        RemoteEdge(url)
