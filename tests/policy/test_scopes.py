"""Scopes and addresses in an application: what a route demands, in each integration, and what it answers."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import APIRouter, FastAPI, Security
from flask import Flask
from flask import request as flask_request
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from edge.asgi import Answer, call
from keywright.domain.powers import NO_DEMAND, Demand
from keywright.domain.problems import CONTENT_TYPE
from keywright.domain.verdict import Result
from keywright.policy import asgi, django, drf, fastapi, flask, generic, wsgi
from keywright.policy.testing import FakeKeys
from policy import django_site
from policy.keys import Keys
from policy.wsgi import call as call_wsgi

if TYPE_CHECKING:
    pass

BUCKET = "my-bucket"
WANTED = ["orders:read", "items"]
NOT_GOOD = 'Bearer error="insufficient_scope", scope="orders:read items"'
HOME, AWAY, PROXY = "192.0.2.7", "198.51.100.9", "10.1.1.1"


def from_peer(app: Any, peer: str | None) -> Any:
    async def connected(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": None if peer is None else (peer, 1)}, receive, send)

    return connected


async def at_asgi(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(scope["user"].sub)(scope, receive, send)

    policy = asgi.ApiKeyPolicy(asgi.RequireScopes(app, wanted), keys, bucket_name=BUCKET, **options)
    return await call(from_peer(policy, peer), "GET", "/orders", headers=headers)


async def at_starlette(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    async def orders(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.user.sub)

    guarded = [Middleware(asgi.RequireScopes, scopes=wanted)]
    app = Starlette(
        routes=[Mount("/", routes=[Route("/orders", orders)], middleware=guarded)],
        middleware=[Middleware(asgi.ApiKeyPolicy, source=keys, bucket_name=BUCKET, **options)],
    )
    return await call(from_peer(app, peer), "GET", "/orders", headers=headers)


async def at_litestar(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    @get("/orders", middleware=[DefineMiddleware(asgi.RequireScopes, scopes=wanted)], media_type="text/plain")
    async def orders(request: LitestarRequest[Any, Any, Any]) -> str:
        return str(request.user.sub)

    policy = DefineMiddleware(asgi.ApiKeyPolicy, source=keys, bucket_name=BUCKET, **options)
    app = Litestar([orders], middleware=[policy])
    return await call(from_peer(app, peer), "GET", "/orders", headers=headers)


async def at_fastapi(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    app = FastAPI()
    app.add_exception_handler(fastapi.KeyRefused, fastapi.answer_problem)
    policy = fastapi.ApiKeyPolicy(keys, bucket_name=BUCKET, **options)

    @app.get("/orders", response_class=PlainTextResponse)
    async def orders(user: Any = Security(policy, scopes=wanted)) -> str:  # noqa: B008
        return str(user.sub)

    return await call(from_peer(app, peer), "GET", "/orders", headers=headers)


async def at_wsgi(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["keywright.user"].sub.encode()]

    policy = wsgi.ApiKeyPolicy(wsgi.RequireScopes(app, wanted), keys, bucket_name=BUCKET, **options)
    return call_wsgi(policy, "GET", "/orders", headers=headers, REMOTE_ADDR=peer or "")


async def at_flask(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    app = Flask(__name__)
    policy = flask.ApiKeyPolicy(app, keys, bucket_name=BUCKET, **options)

    @app.get("/orders")
    @policy.require_scopes(*wanted)
    def orders() -> str:
        return str(flask_request.environ["keywright.user"].sub)

    return call_wsgi(app.wsgi_app, "GET", "/orders", headers=headers, is_checked=False, REMOTE_ADDR=peer or "")


def _in_django(view: Any, keys: Any, headers: Any, peer: str | None, middleware: list[str], options: Any) -> Answer:
    class Urls:
        urlpatterns = (path("orders", view),)

    given = {"SOURCE": keys, "BUCKET_NAME": BUCKET, **{name.upper(): value for name, value in options.items()}}
    with override_settings(KEYWRIGHT=given, MIDDLEWARE=middleware, ROOT_URLCONF=Urls):
        return call_wsgi(WSGIHandler(), "GET", "/orders", headers=headers, is_checked=False, REMOTE_ADDR=peer or "")


async def at_django(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    @django.require_scopes(*wanted)
    def orders(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.user.sub)  # type: ignore[attr-defined]

    middleware = ["keywright.policy.django.ApiKeyMiddleware"]
    return _in_django(orders, keys, headers, peer, middleware, options)


async def at_drf(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    class Orders(django_site.APIView):
        permission_classes = (drf.require_scopes(*wanted) & django_site.AllowAny,)

        def get(self, request: Any) -> Any:
            return django_site.Response(request.user.sub)

    answer = _in_django(Orders.as_view(), keys, headers, peer, ["keywright.policy.drf.tell_limits"], options)
    answer.body = answer.body.strip(b'"') if answer.status == 200 else answer.body
    return answer


async def at_generic(keys: Any, headers: Any, peer: str | None, wanted: list[str], **options: Any) -> Answer:
    policy = generic.ApiKeyPolicy(keys, bucket_name=BUCKET, **options)
    user, _, refusal = await policy.check(headers, path="/orders", scopes=wanted, address=peer)
    if refusal is None:
        return Answer(200, {}, (user.sub or "").encode(), 0)
    return Answer(refusal.status, dict(refusal.headers), refusal.body, 0)


INTEGRATIONS = [
    at_asgi, at_starlette, at_litestar, at_fastapi, at_wsgi, at_flask, at_django, at_drf, at_generic
]  # fmt: skip
every = pytest.mark.parametrize("ask", INTEGRATIONS, ids=lambda ask: ask.__name__)


def bearer(key: str, *more: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {key}".encode()), *((n.encode(), v.encode()) for n, v in more)]


def refusal_of(answer: Answer) -> tuple[int, str | None]:
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert (answer.json()["status"], answer.json()["instance"]) == (answer.status, "/orders")
    return answer.status, answer.headers.get("www-authenticate")


@every
async def test_a_route_lets_those_on_whose_key_is_good_for_all_that_it_demands(ask: Any) -> None:
    keys = FakeKeys()
    for scopes in (WANTED, ["orders:*", "items"], ["*"]):
        answer = await ask(keys, bearer(keys.valid("acme", scopes=scopes)), None, WANTED)
        assert (answer.status, answer.body) == (200, b"acme")
    for scopes in ([], ["orders:read"], ["orders", "items"]):
        assert refusal_of(await ask(keys, bearer(keys.valid(scopes=scopes)), None, WANTED)) == (403, NOT_GOOD)


@every
async def test_a_key_that_is_not_good_at_all_is_refused_for_that(ask: Any) -> None:
    keys = FakeKeys()
    for key in (keys.disabled(), keys.expired(), keys.unknown()):
        assert refusal_of(await ask(keys, bearer(key), None, WANTED)) == (401, 'Bearer error="invalid_token"')
    assert refusal_of(await ask(keys, [], None, WANTED)) == (401, 'Bearer realm="my-bucket"')


@every
@pytest.mark.parametrize("options", [{"allow_unauthenticated_requests": True}, {"exempt_paths": ["/*"]}], ids=str)
async def test_a_route_that_demands_scopes_is_for_somebody(ask: Any, options: dict[str, Any]) -> None:
    keys = FakeKeys()
    assert refusal_of(await ask(keys, [], None, WANTED, **options)) == (401, 'Bearer realm="my-bucket"')
    assert (await ask(keys, bearer(keys.expired()), None, WANTED, **options)).status == 401


@every
async def test_what_the_policy_itself_demands_holds_for_every_route(ask: Any) -> None:
    keys = FakeKeys()
    for scopes, status in ((["a", "b"], 200), (["a"], 403), (["b"], 403)):
        answer = await ask(keys, bearer(keys.valid(scopes=scopes)), None, ["b"], scopes=["a"])
        assert answer.status == status


REAL_IP = {"client_address": "X-Real-IP", "trusted_proxies": ["10.0.0.0/8"]}
LIST = {"client_address": "X-Forwarded-For", "trusted_proxies": ["10.0.0.0/8", "127.0.0.1"]}
OWN = {"client_address": "connection"}
ASKED = [
    pytest.param({}, HOME, [], 403, id="off"),
    pytest.param({}, HOME, [("x-real-ip", HOME), ("x-forwarded-for", HOME)], 403, id="off, and told"),
    pytest.param(OWN, HOME, [], 200, id="connection"),
    pytest.param(OWN, f"::ffff:{HOME}", [], 200, id="connection of an IPv6 socket"),
    pytest.param(OWN, AWAY, [("x-real-ip", HOME), ("x-forwarded-for", HOME)], 403, id="connection, and told"),
    pytest.param(OWN, None, [], 403, id="no connection"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", HOME)], 200, id="told"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", AWAY)], 403, id="told another"),
    pytest.param(REAL_IP, PROXY, [], 403, id="not told"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", f"{HOME}, {HOME}")], 403, id="told a list"),
    pytest.param(REAL_IP, PROXY, [("x-real-ip", f"{HOME}:80")], 403, id="told a port"),
    pytest.param(REAL_IP, PROXY, [("x-forwarded-for", HOME)], 403, id="told in another header"),
    pytest.param(REAL_IP, AWAY, [("x-real-ip", HOME)], 403, id="told by a stranger"),
    pytest.param(REAL_IP, HOME, [("x-real-ip", AWAY)], 200, id="past the proxy"),
    pytest.param(LIST, PROXY, [("x-forwarded-for", f"{AWAY}, {HOME}, 10.9.9.9")], 200, id="hop by hop"),
    pytest.param(LIST, PROXY, [("x-forwarded-for", f"{HOME}, {AWAY}, 10.9.9.9")], 403, id="made up"),
]


@every
@pytest.mark.parametrize(("options", "peer", "headers", "status"), ASKED)
async def test_an_app_knows_the_address_that_it_is_set_to_know(
    ask: Any, options: dict[str, Any], peer: str | None, headers: list[tuple[str, str]], status: int
) -> None:
    keys = FakeKeys()
    if ask is at_generic and not options:
        # What it is handed it knows.
        assert (await ask(keys, bearer(keys.valid(allowed_ips=["192.0.2.0/24"])), peer, [])).status == 200
        peer = None
    answer = await ask(keys, bearer(keys.valid(allowed_ips=["192.0.2.0/24"]), *headers), peer, [], **options)
    assert answer.status == status
    if status == 403:
        assert refusal_of(answer) == (403, None)
    assert (await ask(keys, bearer(keys.valid(), *headers), peer, [], **options)).status == 200


def test_who_runs_the_app_is_told_that_no_address_is_known(caplog: pytest.LogCaptureFixture) -> None:
    keys = FakeKeys()
    headers = {"authorization": f"Bearer {keys.valid(allowed_ips=[HOME])}"}
    for options in ({}, REAL_IP):
        policy = generic.ApiKeyPolicy(keys, bucket_name=BUCKET, **options)  # type: ignore[arg-type]
        for _ in range(3):
            assert policy.check_blocking(headers, address=None if not options else PROXY).refusal is not None
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert "client_address" in told[0]
    assert "there is no x-real-ip header from 10.1.1.1" in told[1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scopes": "orders:read"}, TypeError), ({"scopes": ["a b"]}, ValueError), ({"scopes": ["a:*:b"]}, ValueError),
        ({"client_address": "X-Real-IP"}, ValueError), ({"trusted_proxies": ["10.0.0.0/8"]}, ValueError),
        ({"client_address": "Forwarded", "trusted_proxies": ["10.0.0.0/8"]}, ValueError),
        ({"client_address": "X Real", "trusted_proxies": ["10.0.0.0/8"]}, ValueError),
        ({"client_address": "X-Real-IP", "trusted_proxies": "10.0.0.0/8"}, TypeError),
        ({"client_address": "X-Real-IP", "trusted_proxies": ["10.0.0.1/8"]}, ValueError),
        ({"client_address": "X-Real-IP", "trusted_proxies": ["0.0.0.0/0"]}, ValueError),
        ({"client_address": "connection", "trusted_proxies": ["10.0.0.0/8"]}, ValueError),
        ({"routes": {"orders": "orders"}}, ValueError), ({"routes": {"/orders": "my orders"}}, ValueError),
        ({"routes": {f"/{number}": f"tag-{number}" for number in range(9)}}, ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_when_the_policy_is_made(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        generic.ApiKeyPolicy(FakeKeys(), bucket_name=BUCKET, **options)


def test_a_source_that_takes_no_demand_never_answers_one() -> None:
    policy = generic.ApiKeyPolicy(Keys(), bucket_name=BUCKET)
    headers = {"authorization": "Bearer zpka_gold"}
    assert policy.check_blocking(headers).refusal is None
    for asked in ({"scopes": ["a"]}, {"address": HOME}):
        with pytest.raises(TypeError, match="no third parameter"):
            policy.check_blocking(headers, **asked)  # type: ignore[arg-type]
    for options in ({"scopes": ["a"]}, {"client_address": "connection"}):
        with pytest.raises(TypeError, match="no third parameter"):
            generic.ApiKeyPolicy(Keys(), bucket_name=BUCKET, **options)  # type: ignore[arg-type]
    late = generic.ApiKeyPolicy(Keys, bucket_name=BUCKET, scopes=["a"])
    with pytest.raises(TypeError, match="no third parameter"):
        late.check_blocking(headers)


def test_a_user_has_the_scopes_and_the_metadata_of_the_key() -> None:
    keys = FakeKeys()
    policy = generic.ApiKeyPolicy(keys, bucket_name=BUCKET, allow_unauthenticated_requests=True)
    key = keys.valid("acme", scopes=["b", "orders:*"], key_metadata={"device": "till"})
    user = policy.check_blocking({"authorization": f"Bearer {key}"}).user
    assert (user.scopes, user.key_metadata) == (("b", "orders:*"), {"device": "till"})
    assert user.has_scopes("orders:read", "b")
    assert not user.has_scopes("orders:read", "c")
    nobody = policy.check_blocking({}).user
    assert (nobody.scopes, nobody.key_metadata, nobody.has_scopes("b")) == ((), {}, False)
    django_user = django.DjangoUser.of(user)  # type: ignore[arg-type]
    assert (django_user.scopes, django_user.key_metadata) == (user.scopes, user.key_metadata)


def test_fastapi_shows_the_scopes_of_routers_and_routes_in_its_document() -> None:
    policy = fastapi.ApiKeyPolicy(FakeKeys(), bucket_name=BUCKET)
    app, router = FastAPI(), APIRouter(dependencies=[Security(policy, scopes=["orders:read"])])

    @router.get("/orders")
    async def orders() -> None: ...

    @router.put("/orders", dependencies=[Security(policy, scopes=["orders:write"])])
    async def put() -> None: ...

    app.include_router(router)
    told = app.openapi()["paths"]["/orders"]
    assert told["get"]["security"] == [{"ApiKey": ["orders:read"]}]
    assert {scope for one in told["put"]["security"] for scope in one["ApiKey"]} == {"orders:read", "orders:write"}


async def test_fastapi_demands_what_routers_and_routes_demand_together() -> None:
    keys = FakeKeys()
    policy = fastapi.ApiKeyPolicy(keys, bucket_name=BUCKET)
    app, router = FastAPI(), APIRouter(dependencies=[Security(policy, scopes=["a"])])

    @router.get("/orders", dependencies=[Security(policy, scopes=["b"])])
    async def orders() -> None: ...

    app.include_router(router)
    for scopes, status in ((["a", "b"], 200), (["a"], 403), (["b"], 403), (["*"], 200)):
        answer = await call(app, "GET", "/orders", headers=bearer(keys.valid(scopes=scopes)))
        assert answer.status == status


def test_django_guards_async_views_too() -> None:
    @django.require_scopes("a")
    async def orders(request: HttpRequest) -> HttpResponse:
        return HttpResponse("reached")

    assert iscoroutinefunction(orders)
    keys = FakeKeys()
    for scopes, status in (["a"], 200), ([], 403):
        middleware = ["keywright.policy.django.ApiKeyMiddleware"]
        answer = _in_django(orders, keys, bearer(keys.valid(scopes=scopes)), None, middleware, {})
        assert answer.status == status


async def test_a_demand_outside_of_any_policy_lets_nobody_on() -> None:
    async def app(*_: Any) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="inside of"):
        await call(asgi.RequireScopes(app, ["a"]), "GET", "/")
    with pytest.raises(RuntimeError, match="inside of"):
        call_wsgi(wsgi.RequireScopes(app, ["a"]), "GET", "/", is_checked=False)  # type: ignore[arg-type]


async def test_a_websocket_is_refused_at_its_handshake() -> None:
    keys = FakeKeys()
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    policy = asgi.ApiKeyPolicy(asgi.RequireScopes(app, ["a"]), keys, bucket_name=BUCKET)
    for scopes in (["a"], []):
        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": bearer(keys.valid(scopes=scopes))}
        await policy(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 1008


def test_a_refusal_tells_nothing_of_what_the_key_has(caplog: pytest.LogCaptureFixture) -> None:
    keys = FakeKeys()
    key = keys.valid(scopes=["secret:plans"])
    refusal = (
        generic.ApiKeyPolicy(keys, bucket_name=BUCKET)
        .check_blocking({"authorization": f"Bearer {key}"}, scopes=["a"])
        .refusal
    )
    assert refusal is not None
    assert "secret:plans" not in json.dumps([refusal.headers, refusal.body.decode()])
    assert key not in caplog.text


def test_use_is_told_apart_by_the_tag_of_the_longest_path_that_a_request_is_below() -> None:
    asked: list[str | None] = []

    class Noting(FakeKeys):
        def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
            asked.append(demand.route)
            return super().validate(secret, bucket, demand)

    routes = {"/orders": "orders", "/orders/old": "old", "/reports/": "reports"}
    policy = generic.ApiKeyPolicy(Noting(), bucket_name=BUCKET, routes=routes)
    paths = ["/orders", "/orders/", "/orders/7", "/orders/old/7", "/orders-of-mine", "/", "/reports", "/reports/x"]
    for one in paths:
        policy.check_blocking({"authorization": "Bearer nobody"}, path=one)
    assert asked == ["orders", "orders", "orders", "old", None, None, "reports", "reports"]
    with pytest.raises(TypeError, match="no third parameter"):
        generic.ApiKeyPolicy(Keys(), bucket_name=BUCKET, routes=routes)
