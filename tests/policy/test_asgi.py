"""What the ASGI policy does with requests of every kind, bad ones first."""

from __future__ import annotations

from typing import Any

import pytest

from edge.asgi import Answer, call
from keywright.policy.asgi import ApiKeyPolicy
from policy.keys import BEARER, EXPIRED, GOLD, LOST, Keys

Headers = list[tuple[bytes, bytes]]


class Probe:
    """An application that remembers the scopes that it was given."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    @property
    def user(self) -> Any:
        return self.scopes[-1]["user"]


def protected(**options: Any) -> tuple[Probe, Keys, ApiKeyPolicy]:
    probe, keys = Probe(), Keys()
    return probe, keys, ApiKeyPolicy(probe, keys, **{"bucket_name": "my-bucket", **options})


async def ask(
    policy: Any, path: str = "/", headers: Headers | None = None, method: str = "GET", **scope: Any
) -> Answer:
    raw, _, query = path.partition("?")

    async def app(given: Any, receive: Any, send: Any) -> None:
        await policy({**given, "query_string": query.encode(), **scope}, receive, send)

    return await call(app, method, raw, headers=headers, content_type=None)


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([(b"x-api-key", GOLD.encode())], "no key"),
        ([(b"authorization", b"")], "no key"),
        ([(b"authorization", b"Bearer ")], "no key"),
        ([(b"authorization", GOLD.encode())], "no key"),
        ([(b"authorization", b"Basic enBrYV9nb2xkOg==")], "no key"),
        ([(b"authorization", b" Bearer zpka_gold")], "no key"),
        ([(b"authorization", b"Bearer \tzpka_gold")], "unknown"),
        ([(b"authorization", b"Bearer " + b"x" * 65536)], "unknown"),
        (BEARER * 2, "more than one"),
        ([*BEARER, (b"authorization", b"Basic eDp5")], "more than one"),
    ],
)
async def test_a_key_that_is_not_shown_as_it_must_be_is_refused(headers: Headers, detail: str) -> None:
    probe, _, policy = protected()
    answer = await ask(policy, headers=headers)
    assert answer.status == 401
    assert detail in answer.json()["detail"]
    assert probe.scopes == []


async def test_the_scheme_is_read_in_any_case() -> None:
    _, _, policy = protected()
    assert (await ask(policy, headers=[(b"authorization", b"bearer zpka_gold")])).status == 200


async def test_a_good_key_gives_the_app_its_consumer() -> None:
    probe, _, policy = protected()
    assert (await ask(policy, headers=BEARER)).status == 200
    scope = probe.scopes[-1]
    user = scope["user"]
    assert (user.sub, user.data, user.consumer_id, user.key_id) == ("acme", {"plan": "gold"}, "csmr_1", "key_1")
    assert (user.is_authenticated, user.identity, user.display_name) == (True, "acme", "acme")
    assert scope["state"]["user"] is user
    auth = scope["auth"]
    assert (auth.key_id, auth.expires_at.isoformat(), auth.scopes) == (
        "key_1",
        "2100-01-01T00:00:00+00:00",
        ("authenticated",),
    )
    assert GOLD not in repr((user, auth))


@pytest.mark.parametrize(
    "name", [b"x-consumer-name", b"x_consumer_name", b"x-consumer_id", b"x-key-id", b"x-consumer-token"]
)
@pytest.mark.parametrize("path", ["/", "/health"])
async def test_an_identity_that_a_client_made_up_never_reaches_the_app(name: bytes, path: str) -> None:
    probe, _, policy = protected(exempt_paths=["/health"])
    headers = [(name, b"admin"), (b"x-other", b"kept"), *BEARER]
    await ask(policy, path, headers, user="forged", auth="forged", state={"user": "forged", "pool": 1})
    scope = probe.scopes[-1]
    assert scope["headers"] == [(b"x-other", b"kept"), *BEARER]
    assert scope["user"].sub == (None if path == "/health" else "acme")
    assert scope["state"] == {"user": scope["user"], "pool": 1}
    assert scope["auth"] != "forged"


async def test_a_key_in_the_query_string_is_refused_unless_switched_on() -> None:
    _, _, policy = protected()
    assert (await ask(policy, "/?api_key=zpka_gold")).status == 401
    _, keys, policy = protected(query_parameter="api_key")
    assert (await ask(policy, "/?a=1&api_key=zpka_gold")).status == 200
    assert (await ask(policy, "/?api_key=zpka%5Fgold")).status == 200
    assert (await ask(policy, "/", BEARER)).status == 200
    assert (await ask(policy, "/?API_KEY=zpka_gold")).status == 401
    assert (await ask(policy, "/?api_key=")).status == 401
    assert (await ask(policy, "/?" + "x=1&" * 2000 + "api_key=zpka_gold")).status == 401
    for path, headers in (("/?api_key=zpka_gold&api_key=zpka_gold", []), ("/?api_key=zpka_gold", BEARER)):
        assert "more than one" in (await ask(policy, path, headers)).json()["detail"]
    assert keys.asked == [GOLD] * 3


@pytest.mark.parametrize(
    ("options", "header", "challenge"),
    [
        ({"auth_header": "X-API-Key", "auth_scheme": ""}, (b"x-api-key", b"zpka_gold"), 'ApiKey realm="my-bucket"'),
        ({"auth_header": "x-key-id", "auth_scheme": ""}, (b"x-key-id", b"zpka_gold"), 'ApiKey realm="my-bucket"'),
        ({"auth_scheme": "Key"}, (b"authorization", b"KEY zpka_gold"), 'Key realm="my-bucket"'),
        ({"auth_scheme": ""}, (b"authorization", b"zpka_gold"), 'ApiKey realm="my-bucket"'),
    ],
)
async def test_header_and_scheme_are_options(options: Any, header: tuple[bytes, bytes], challenge: str) -> None:
    _, _, policy = protected(**options)
    assert (await ask(policy, headers=[header])).status == 200
    assert (await ask(policy)).headers["www-authenticate"] == challenge


async def test_requests_without_a_good_key_pass_as_nobody_where_that_is_allowed_but_not_undecided_ones() -> None:
    probe, _, policy = protected(allow_unauthenticated_requests=True)
    for headers, code in (
        ([], "MISSING"),
        (BEARER * 2, "AMBIGUOUS"),
        ([(b"authorization", f"Bearer {EXPIRED}".encode())], "EXPIRED"),
        ([(b"authorization", b"Bearer whatever")], "UNKNOWN"),
    ):
        assert (await ask(policy, headers=headers)).status == 200
        user, auth = probe.user, probe.scopes[-1]["auth"]
        assert (user.code, user.is_authenticated, user.sub, user.data, auth.scopes) == (code, False, None, {}, ())
    count = len(probe.scopes)
    answer = await ask(policy, headers=[(b"authorization", f"Bearer {LOST}".encode())])
    assert (answer.status, answer.headers["retry-after"], len(probe.scopes)) == (503, "1", count)


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/health", True),
        ("/health/", False),
        ("/healthy", False),
        ("/HEALTH", False),
        ("/public/", True),
        ("/public/a/b", True),
        ("/public", False),
        ("/public/../private", False),
        ("/public/%2e%2e/private", False),
        ("/public/%252e%252e/private", False),
        ("/public/..%5cprivate", False),
        ("/public//private", False),
        ("//health", False),
        ("/private/public/", False),
    ],
)
async def test_exempt_paths_are_taken_literally(path: str, passes: bool) -> None:
    probe, keys, policy = protected(exempt_paths=["/health", "/public/*"])
    assert (await ask(policy, path)).status == (200 if passes else 401)
    assert [scope["user"].code for scope in probe.scopes] == (["EXEMPT"] if passes else [])
    assert keys.asked == []


async def test_exempt_paths_begin_where_the_app_is_mounted() -> None:
    _, _, policy = protected(exempt_paths=["/health"])
    assert (await ask(policy, "/v1/health", root_path="/v1")).status == 200
    assert (await ask(policy, "/v1/health")).status == 401
    assert (await ask(policy, "/health", root_path="/v1")).status == 200


async def test_cors_preflights_pass_by_option_only_and_nothing_else_does() -> None:
    preflight = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"PUT")]
    _, _, policy = protected()
    assert (await ask(policy, headers=preflight, method="OPTIONS")).status == 401
    _, _, policy = protected(allow_cors_preflight=True)
    assert (await ask(policy, headers=preflight, method="OPTIONS")).status == 200
    for headers, method in (
        (preflight, "GET"),
        (preflight[:1], "OPTIONS"),
        (preflight[1:], "OPTIONS"),
        ([], "OPTIONS"),
    ):
        assert (await ask(policy, headers=headers, method=method)).status == 401


async def test_a_refused_head_has_the_length_of_the_body_and_no_body() -> None:
    _, _, policy = protected()
    head, get = await ask(policy, method="HEAD"), await ask(policy)
    assert (head.status, head.body) == (401, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


async def test_a_request_id_is_repeated_only_if_it_is_one() -> None:
    _, _, policy = protected()
    assert (await ask(policy, headers=[(b"x-request-id", b"abc-1")])).json()["requestId"] == "abc-1"
    assert len((await ask(policy, headers=[(b"x-request-id", b"a\x00b")])).json()["requestId"]) == 32


async def test_a_body_of_100_mb_streams_through_and_a_refused_one_is_not_read() -> None:
    chunk, sent, most_ahead = bytes(1024 * 1024), 0, 0
    received = 0

    async def receive() -> Any:
        nonlocal sent, most_ahead
        sent += 1
        most_ahead = max(most_ahead, sent - received)
        return {"type": "http.request", "body": chunk, "more_body": sent < 100}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal received
        while True:
            message = await receive()
            received += 1
            if not message["more_body"]:
                return

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "PUT", "path": "/", "query_string": b"", "headers": []}
    policy = ApiKeyPolicy(app, Keys(), bucket_name="my-bucket")
    await policy(dict(scope), receive, send)
    assert (sent, received) == (0, 0)
    await policy({**scope, "headers": list(BEARER)}, receive, send)
    assert (sent, received, most_ahead) == (100, 100, 1)


@pytest.mark.parametrize("has_extension", [True, False])
async def test_a_websocket_without_a_good_key_is_refused_at_the_handshake(has_extension: bool) -> None:
    probe, _, policy = protected()
    scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
    if has_extension:
        scope["extensions"] = {"websocket.http.response": {}}
    sent: list[Any] = []
    received = 0

    async def receive() -> Any:
        nonlocal received
        received += 1
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        assert received == 1
        sent.append(message)

    await policy(scope, receive, send)
    if has_extension:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 401
        assert (b"www-authenticate", b'Bearer realm="my-bucket"') in sent[0]["headers"]
    else:
        assert sent == [{"type": "websocket.close", "code": 1008, "reason": "There is no key in the request."}]
    assert probe.scopes == []
    await policy({**scope, "headers": list(BEARER)}, receive, send)
    assert probe.user.sub == "acme"


async def test_what_the_policy_does_not_know_it_does_not_let_through() -> None:
    probe, _, policy = protected()
    with pytest.raises(ValueError, match="webtransport"):
        await policy({"type": "webtransport"}, None, None)  # type: ignore[arg-type]
    assert probe.scopes == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bucket_name": ""}, ValueError),
        ({"auth_header": ""}, ValueError),
        ({"auth_header": "x y"}, ValueError),
        ({"auth_scheme": "Bearer "}, ValueError),
        ({"exempt_paths": "/health"}, TypeError),
        ({"exempt_paths": ["health"]}, ValueError),
        ({"exempt_paths": ["/a*"]}, ValueError),
        ({"exempt_paths": ["/*/b"]}, ValueError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_options_that_make_no_sense_are_refused_at_the_start(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        protected(**options)


def test_a_source_that_would_be_mistaken_for_another_kind_is_refused() -> None:
    class Awaited:
        async def validate(self, secret: str, bucket: str) -> Any: ...

    for source in (Awaited(), object(), None):
        with pytest.raises(TypeError, match="validate"):
            ApiKeyPolicy(Probe(), source, bucket_name="my-bucket")  # type: ignore[arg-type]


async def test_a_source_that_fails_lets_nobody_in() -> None:
    class Broken:
        def validate(self, secret: str, bucket: str) -> Any:
            raise OSError("broken")

    probe = Probe()
    policy = ApiKeyPolicy(probe, Broken(), bucket_name="my-bucket", allow_unauthenticated_requests=True)
    with pytest.raises(OSError, match="broken"):
        await ask(policy, headers=BEARER)
    assert probe.scopes == []
