"""The policy in the frameworks that it is for, as their own applications see it. Real keys, on a real replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from keywright.policy import asgi, wsgi
from policy.keys import BEARER, EXPIRED, Keys
from policy.wsgi import call as call_wsgi

GOOD = {"authorization": "Bearer zpka_gold"}
FORGED = {"x-consumer-name": "admin", "x-consumer-metadata": "%7B%7D"}
ACME = {"sub": "acme", "data": {"plan": "gold"}}


@pytest.fixture
def keys() -> Keys:
    return Keys()


async def _tell(request: Any) -> JSONResponse:
    forged = [name for name in request.headers if name.startswith("x-consumer")]
    return JSONResponse({"sub": request.user.sub, "data": request.user.data, "forged": forged})


@requires("authenticated")
async def _members(request: Any) -> JSONResponse:
    return JSONResponse({"state": request.state.user.sub, "key": request.auth.key_id})


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.sub)
    await websocket.close()


ROUTES = [
    Route("/", _tell, methods=["GET", "HEAD", "OPTIONS"]),
    Route("/members", _members),
    WebSocketRoute("/ws", _socket),
]


def test_starlette_has_the_consumer_in_request_user(keys: Keys) -> None:
    app = Starlette(routes=ROUTES, middleware=[Middleware(asgi.ApiKeyPolicy, keys, bucket_name="my-bucket")])
    with TestClient(app) as client:
        assert keys.steps == ["open"]
        assert client.get("/", headers={**GOOD, **FORGED}).json() == {**ACME, "forged": []}
        assert client.get("/members", headers=GOOD).json() == {"state": "acme", "key": "key_1"}
        assert client.get("/", headers=FORGED).status_code == 401
        assert client.head("/").status_code == 401
        with client.websocket_connect("/ws", headers=GOOD) as socket:
            assert socket.receive_text() == "acme"
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
            pass
        assert refused.value.status_code == 401
    assert keys.steps == ["open", "close"]


def test_starlettes_own_rules_know_who_is_nobody(keys: Keys) -> None:
    policy = Middleware(asgi.ApiKeyPolicy, keys, bucket_name="my-bucket", allow_unauthenticated_requests=True)
    with TestClient(Starlette(routes=ROUTES, middleware=[policy])) as client:
        assert client.get("/").json() == {"sub": None, "data": {}, "forged": []}
        assert client.get("/members").status_code == 403
        assert client.get("/members", headers=GOOD).status_code == 200


def test_a_part_of_an_app_can_be_protected_alone(keys: Keys) -> None:
    inner = asgi.ApiKeyPolicy(Starlette(routes=ROUTES), keys, bucket_name="my-bucket", exempt_paths=["/members"])

    async def outside(request: Any) -> JSONResponse:
        return JSONResponse("open")

    client = TestClient(Starlette(routes=[Route("/open", outside), Mount("/api", inner)]))
    assert client.get("/open").status_code == 200
    assert client.get("/api/").status_code == 401
    assert client.get("/api/", headers=GOOD).json()["sub"] == "acme"
    assert client.get("/api/members").status_code == 403
    # No lifespan came through to it: the first request opened the source.
    assert keys.steps == ["open"]


def test_litestar_has_the_consumer_in_request_user(keys: Keys) -> None:
    @litestar_get("/")
    async def hello(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        assert request.state.user is request.user
        return {"sub": request.user.sub, "data": request.user.data, "forged": request.headers.get("x-consumer-name")}

    app = asgi.ApiKeyPolicy(Litestar([hello]), keys, bucket_name="my-bucket")
    with TestClient(app) as client:
        assert client.get("/", headers={**GOOD, **FORGED}).json() == {**ACME, "forged": None}
        assert client.get("/").status_code == 401
        assert client.get("/nowhere").status_code == 401
    assert keys.steps == ["open", "close"]


def test_flask_has_the_consumer_in_the_environ(keys: Keys) -> None:
    from flask import Flask, request

    app = Flask(__name__)
    app.wsgi_app = wsgi.ApiKeyPolicy(app.wsgi_app, keys, bucket_name="my-bucket")  # type: ignore[method-assign]

    @app.get("/")
    def hello() -> dict[str, Any]:
        user = request.environ["keywright.user"]
        return {"sub": user.sub, "data": user.data, "forged": request.headers.get("x-consumer-name")}

    client = app.test_client()
    assert client.get("/", headers={**GOOD, **FORGED}).get_json() == {**ACME, "forged": None}
    assert client.get("/").status_code == 401
    assert client.head("/").status_code == 401


def test_django_has_the_consumer_in_its_environ_or_scope(keys: Keys) -> None:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    from policy import django_site  # noqa: F401

    forged = [(name.encode(), value.encode()) for name, value in FORGED.items()]
    through_wsgi = wsgi.ApiKeyPolicy(WSGIHandler(), keys, bucket_name="my-bucket")
    through_asgi = asgi.ApiKeyPolicy(ASGIHandler(), keys, bucket_name="my-bucket")
    for headers, status in ([*BEARER, *forged], 200), (forged, 401):
        answers = [
            call_wsgi(through_wsgi, "GET", "/plain", headers=headers, is_checked=False),
            asyncio.run(call_and_stay(through_asgi, headers)),
        ]
        assert [answer.status for answer in answers] == [status, status]
        if status == 200:
            assert [answer.json() for answer in answers] == [{**ACME, "forged": {}}] * 2


async def call_and_stay(app: Any, headers: Any, path: str = "/plain") -> Any:
    # Django watches for the client's going away while it answers; it must not see that at once.
    from edge.asgi import Answer

    sent: list[Any] = []
    first = True

    async def receive() -> Any:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    await app({**scope, "server": ("test", 80)}, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return Answer(sent[0]["status"], {}, body, 0)


class TestDjangoRestFramework:
    """The authentication class with its settings."""

    @pytest.fixture
    def ask(self, keys: Keys) -> Iterator[Any]:
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import override_settings

        from policy import django_site  # noqa: F401

        def ask(path: str = "/", headers: Any = (), method: str = "GET", **settings: Any) -> Any:
            with override_settings(KEYWRIGHT={"SOURCE": keys, "BUCKET_NAME": "my-bucket", **settings}):
                headers = [(name.encode(), value.encode()) for name, value in dict(headers).items()]
                return call_wsgi(WSGIHandler(), method, path, headers=headers, is_checked=False)

        return ask

    def test_request_user_is_the_consumer_and_request_auth_the_key(self, ask: Any) -> None:
        answer = ask(headers={**GOOD, **FORGED})
        assert (answer.status, answer.json()) == (200, {**ACME, "key": "key_1", "forged": []})

    def test_a_refusal_is_the_same_problem_document_as_at_every_door(self, ask: Any) -> None:
        answer = ask()
        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == 'Bearer realm="my-bucket"'
        assert answer.json()["detail"] == "There is no key in the request."
        # Also where the view lets anybody in: that is the option's to say.
        assert ask("/open").status == 401

    def test_without_the_exception_handler_the_framework_answers_in_its_own_form(self, ask: Any) -> None:
        from rest_framework.settings import api_settings
        from rest_framework.views import exception_handler

        api_settings.EXCEPTION_HANDLER, kept = exception_handler, api_settings.EXCEPTION_HANDLER
        try:
            answer = ask(headers={"authorization": f"Bearer {EXPIRED}"})
            lost = ask(headers={"authorization": "Bearer zpka_lost"})
        finally:
            api_settings.EXCEPTION_HANDLER = kept
        assert (answer.status, answer.json()) == (401, {"detail": "The key has expired."})
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert (lost.status, lost.headers["retry-after"]) == (503, "1")

    def test_nobody_passes_where_option_and_permission_say_so(self, ask: Any) -> None:
        allowed = {"ALLOW_UNAUTHENTICATED_REQUESTS": True}
        assert ask("/open", **allowed).json() == {"sub": None}
        closed = ask("/", **allowed)
        assert (closed.status, closed.headers["www-authenticate"]) == (401, 'Bearer realm="my-bucket"')
        assert ask("/open", headers={"authorization": "Bearer zpka_lost"}, **allowed).status == 503

    def test_a_subclass_has_settings_of_its_own(self, ask: Any, keys: Keys) -> None:
        from django.test import override_settings

        own = {"SOURCE": keys, "BUCKET_NAME": "other-bucket", "AUTH_HEADER": "x-api-key", "AUTH_SCHEME": ""}
        with override_settings(KEYWRIGHT_ELSEWHERE=own):
            assert ask("/other", headers=GOOD).status == 401
            assert ask("/other", headers={"x-api-key": "zpka_gold"}).status == 200

    def test_throttles_know_one_consumer_from_another(self, ask: Any) -> None:
        assert [ask("/throttled", headers=GOOD).status for _ in range(2)] == [200, 429]

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"SOURCE": None}, "SOURCE"),
            ({"BUCKET_NAME": ""}, "bucket_name"),
            ({"NONSENSE": 1}, "nonsense"),
            ({"SOURCE": object()}, "validate"),
        ],
    )
    def test_settings_that_make_no_sense_are_named(self, ask: Any, settings: Any, said: str) -> None:
        from django.core.exceptions import ImproperlyConfigured
        from django.test import RequestFactory, override_settings

        from policy.django_site import Hello

        wrong = {"SOURCE": Keys(), "BUCKET_NAME": "my-bucket", **settings}
        with override_settings(KEYWRIGHT=wrong), pytest.raises(ImproperlyConfigured, match=said):
            Hello.as_view()(RequestFactory().get("/"))

    def test_the_source_may_be_named_by_its_path(self, ask: Any) -> None:
        assert ask(headers=GOOD, SOURCE="policy.keys.THE_KEYS").status == 200
