"""HTTP/2 at the gateways: the same verdicts, and nothing that its frames can hold and HTTP/1.1 can't becomes a yes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from endpoints.table import BUCKET, NEVER_MADE, ROWS, VALID
from gateways import http2
from gateways.conftest import start_all
from gateways.gateway import CADDY, KINDS, NGINX, Edits, Gateway, Kind
from gateways.http2 import request
from gateways.spellings import spellings
from gateways.upstream import Upstream

# With a certificate they all speak it. Without one these two have to be told; this nginx has it on a port of its own.
HTTP2: dict[Kind, Edits] = {
    NGINX: [("listen 127.0.0.1:8000;", "listen 127.0.0.1:8000; listen 127.0.0.1:8001 http2;")],
    CADDY: [("persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t}")],
}
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[dict[Kind, Gateway]]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("http2")
        yield start_all(stack, directory, upstream, lambda kind: HTTP2.get(kind, ()))[0]


MAY_BE = {name: {0, 400, 401} for name in ("two headers", "not ASCII header")}


def ask(gateway: Gateway, headers: http2.Headers, body: bytes = b"", trailers: http2.Headers = ()) -> http2.Answer:
    with http2.connect(_port(gateway)) as connection:
        return connection.ask(headers, body, trailers)


def ask_all(gateway: Gateway, requests: dict[str, list[tuple[bytes, bytes]]]) -> dict[str, http2.Answer]:
    """At once, since Envoy takes a second to close a connection that it has refused."""
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = pool.map(lambda headers: ask(gateway, headers), requests.values())
        return dict(zip(requests, answers, strict=True))


def _port(gateway: Gateway) -> int:
    return gateway.side_port if gateway.kind is NGINX else gateway.port


KEY = (b"authorization", f"Bearer {VALID}".encode())
OTHER_KEY = (b"authorization", f"Bearer {NEVER_MADE}".encode())


@each_gateway
def test_the_table_of_key_states(kind: Kind, gateways: dict[Kind, Gateway], upstream: Upstream) -> None:
    wrong = {}
    for row in ROWS:
        if row.bucket != BUCKET or row.name == "100 kB header":
            # That one takes this client long to encode; the gateways have their limit for HTTP/1.1, too.
            continue
        headers = [(b"authorization", f"Bearer {row.secret}".encode())] if row.headers is None else row.headers
        before = upstream.requests
        answer = ask(gateways[kind], request(*headers))
        if row.expected.consumer is not None:
            if answer.status != 200 or dict(answer.seen)["x-consumer-name"] != row.expected.consumer:
                wrong[row.name] = answer
        elif answer.status not in MAY_BE.get(row.name, {401}) or upstream.requests != before:
            wrong[row.name] = answer
    assert wrong == {}


REFUSED = {
    ":authorization": request(authorization=KEY[1]),
    ":status": request(KEY, status=b"200"),
    "Authorization": request((b"Authorization", KEY[1])),
    "authorization twice, good first": request(KEY, OTHER_KEY),
    "authorization twice, good last": request(OTHER_KEY, KEY),
    "authorization twice, both good": request(KEY, KEY),
    "authorization and Authorization": request(KEY, (b"Authorization", OTHER_KEY[1])),
    "Authorization and authorization": request((b"Authorization", KEY[1]), OTHER_KEY),
    "a header in a value": request((b"x", b"1\r\nAuthorization: " + KEY[1])),
    "a header in a name": request((b"x: 1\r\nauthorization", KEY[1])),
    "NUL in the key": request((b"authorization", KEY[1] + b"\0")),
    "a colon in the name": request((b"authorization:", KEY[1])),
    "a space before the name": request((b" authorization", KEY[1])),
    "a header in the path": request(path=b"/ HTTP/1.1\r\nAuthorization: " + KEY[1] + b"\r\nX: "),
    "a header in the method": request(method=b"GET / HTTP/1.1\r\nAuthorization: " + KEY[1] + b"\r\nX: "),
    "a header in the authority": request(authority=b"x\r\nAuthorization: " + KEY[1]),
    ":authority twice": [*request(KEY), (b":authority", b"y")],
    ":path twice": [(b":path", b"/other"), *request(KEY)],
    ":method twice": [(b":method", b"OPTIONS"), *request(KEY)],
    "no path": [(name, value) for name, value in request(KEY) if name != b":path"],
    "empty path": request(KEY, path=b""),
    "a WebSocket without a key": request(method=b"CONNECT", protocol=b"websocket"),
}


@each_gateway
def test_what_only_frames_can_hold_is_refused(kind: Kind, gateways: dict[Kind, Gateway], upstream: Upstream) -> None:
    gateway, before = gateways[kind], upstream.requests
    answers = ask_all(gateway, REFUSED)
    # 0: the stream or its connection is at an end.
    assert {
        name: answer for name, answer in answers.items() if not (answer.status == 0 or 400 <= answer.status < 500)
    } == {}
    assert upstream.requests == before


FORGED = [(spelling.lower().encode(), b"forged") for spelling in spellings("X-Consumer-Name")]
TOLERATED = {
    "forged": request(KEY, *FORGED),
    "forged in capitals": request(KEY, (b"X-Consumer-Name", b"forged")),
    "a pseudo-header after headers": [KEY, *FORGED, *request()],
    "connection": request(KEY, (b"connection", b"x-consumer-name"), *FORGED),
    "transfer-encoding": request(KEY, (b"transfer-encoding", b"chunked"), *FORGED),
    "two hosts": request(KEY, (b"host", b"y"), *FORGED),
}


@each_gateway
def test_what_a_gateway_does_not_refuse_has_the_identity_of_its_key(kind: Kind, gateways: dict[Kind, Gateway]) -> None:
    answers = ask_all(gateways[kind], TOLERATED)
    assert answers["forged"].status == 200
    for name, answer in answers.items():
        if answer.status == 200:
            told = [value for header, value in answer.seen if "consumer" in header and "name" in header]
            assert told == ["my-consumer"], name
        else:
            assert answer.status == 0 or 400 <= answer.status < 500, name


@each_gateway
def test_a_key_is_good_for_its_own_stream_only(kind: Kind, gateways: dict[Kind, Gateway]) -> None:
    with http2.connect(_port(gateways[kind])) as connection:
        # The second time the key is one byte, which stands for what both sides have kept of the first.
        statuses = [connection.ask(request(*key)).status for key in ([KEY], [], [KEY], [OTHER_KEY], [])]
        assert statuses == [200, 401, 200, 401, 401]
    # Nor is it a key when it comes after the body; nginx resets such a stream.
    assert ask(gateways[kind], request(method=b"POST"), b"body", trailers=[KEY]).status in (0, 401)
