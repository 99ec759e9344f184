"""What a route takes of a key's quotas, in each integration: a cost, nothing, or what is settled afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import APIRouter, FastAPI, Security
from fastapi.responses import PlainTextResponse
from flask import Flask, g

from edge.asgi import call
from edge.quotas.world import CONSUMER, KEY
from keywright.domain.powers import NO_DEMAND, Demand
from keywright.domain.reservations import Outcome, Settlement
from keywright.domain.verdict import UNKNOWN, ConsumerRecord, KeyRecord, Reserved, Result, Verdict
from keywright.policy import asgi, django, drf, fastapi, flask, generic, wsgi
from keywright.policy.testing import FakeKeys
from policy import django_site
from policy.wsgi import call as call_wsgi

BUCKET, TOKEN = "my-bucket", "kwr1_of-a-test"
BEARER = [(b"authorization", f"Bearer {KEY}".encode())]
COST, PEEK, RESERVE, NONE = {"cost": 5}, {"peek": True}, {"reserve": 40}, dict[str, Any]()
SAID = [
    pytest.param(COST, Demand(cost=5), id="cost"),
    pytest.param(PEEK, Demand(is_peek=True), id="peek"),
    pytest.param(RESERVE, Demand(cost=40, is_reserve=True), id="reserve"),
    pytest.param(NONE, NO_DEMAND, id="nothing"),
]


class Ledger:
    """A source that writes down what it is asked, and what is settled."""

    def __init__(self) -> None:
        self.asked: list[Demand] = []
        self.settled: list[tuple[str, int]] = []

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        self.asked.append(demand)
        if secret != KEY:
            return UNKNOWN
        good = Verdict.VALID, KeyRecord("key_1", CONSUMER, None), ConsumerRecord("csmr_1", "acme", b"{}")
        if not demand.is_reserve:
            return Result(*good)
        reserved = Reserved(*good)
        reserved.token = TOKEN
        return reserved

    async def settle_reservation(self, token: str, cost: int) -> Settlement:
        return self.settle_reservation_here(token, cost)

    def settle_reservation_here(self, token: str, cost: int) -> Settlement:
        self.settled.append((token, cost))
        return Settlement(Outcome.SETTLED, cost, 40)


async def at_fastapi(source: Any, said: dict[str, Any]) -> None:
    app = FastAPI()
    policy = fastapi.ApiKeyPolicy(source, bucket_name=BUCKET)

    @app.get("/orders", response_class=PlainTextResponse)
    async def orders(user: Any = Security(policy.charge(**said))) -> str:  # noqa: B008
        await policy.settle(user.reservation, 7)
        return str(user.sub)

    assert (await call(app, "GET", "/orders", headers=BEARER)).body == b"acme"


async def at_flask(source: Any, said: dict[str, Any]) -> None:
    app = Flask(__name__)
    policy = flask.ApiKeyPolicy(app, source, bucket_name=BUCKET)

    @app.get("/orders")
    @policy.charge(**said)
    def orders() -> str:
        policy.settle(g.user.reservation, 7)
        return str(g.user.sub)

    assert call_wsgi(app.wsgi_app, "GET", "/orders", headers=BEARER, is_checked=False).body == b"acme"


def _in_django(source: Any, view: Any, middleware: list[str]) -> bytes:
    class Urls:
        urlpatterns = (path("orders", view),)

    given = {"SOURCE": source, "BUCKET_NAME": BUCKET}
    with override_settings(KEYWRIGHT=given, MIDDLEWARE=middleware, ROOT_URLCONF=Urls):
        return call_wsgi(WSGIHandler(), "GET", "/orders", headers=BEARER, is_checked=False).body


async def at_django(source: Any, said: dict[str, Any]) -> None:
    @django.charge(**said)
    def orders(request: HttpRequest) -> HttpResponse:
        django.settle(request.user.reservation, 7)  # type: ignore[attr-defined]
        return HttpResponse(request.user.sub)  # type: ignore[attr-defined]

    assert _in_django(source, orders, ["keywright.policy.django.ApiKeyMiddleware"]) == b"acme"


async def at_drf(source: Any, said: dict[str, Any]) -> None:
    class Orders(django_site.APIView):
        keywright_charge = drf.charge(**said)

        def get(self, request: Any) -> Any:
            django.settle(request.user.reservation, 7)
            return django_site.Response(request.user.sub)

    assert _in_django(source, Orders.as_view(), []) == b'"acme"'


async def at_generic(source: Any, said: dict[str, Any]) -> None:
    policy = generic.ApiKeyPolicy(source, bucket_name=BUCKET)
    checked = await policy.check(BEARER, **said)
    assert checked.user.sub == "acme"
    await policy.settle(checked.user.reservation, 7)


async def at_generic_blocking(source: Any, said: dict[str, Any]) -> None:
    policy = generic.ApiKeyPolicy(source, bucket_name=BUCKET)
    checked = policy.check_blocking(BEARER, **said)
    assert checked.user.sub == "acme"
    policy.settle_blocking(checked.user.reservation, 7)


INTEGRATIONS = [at_fastapi, at_flask, at_django, at_drf, at_generic, at_generic_blocking]


@pytest.mark.parametrize("ask", INTEGRATIONS, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize(("said", "asked"), SAID)
async def test_a_route_takes_what_it_says(ask: Any, said: dict[str, Any], asked: Demand) -> None:
    source = Ledger()
    await ask(source, said)
    assert source.asked == [asked]
    # Where nothing was reserved there is nothing to settle.
    assert source.settled == ([(TOKEN, 7)] if asked.is_reserve else [])


@pytest.mark.parametrize("ask", INTEGRATIONS, ids=lambda ask: ask.__name__)
async def test_fake_keys_tell_what_was_taken_and_settled(ask: Any) -> None:
    keys = FakeKeys()
    keys.valid("acme", key=KEY)
    for said in (COST, RESERVE):
        await ask(keys, said)
    assert ([one.cost for one in keys.asked], keys.settled) == ([5, 40], [7])


@pytest.mark.parametrize(("said", "asked"), [one for one in SAID if one.id != "reserve"])
async def test_a_policy_takes_what_it_says_of_every_request(said: dict[str, Any], asked: Demand) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(scope["user"].sub)(scope, receive, send)

    def of_wsgi(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["keywright.user"].sub.encode()]

    source = Ledger()
    assert (await call(asgi.ApiKeyPolicy(app, source, bucket_name=BUCKET, **said), "GET", "/", headers=BEARER)).body
    assert call_wsgi(wsgi.ApiKeyPolicy(of_wsgi, source, bucket_name=BUCKET, **said), "GET", "/", headers=BEARER).body
    assert source.asked == [asked] * 2


async def test_a_route_says_so_in_place_of_its_policy() -> None:
    source = Ledger()
    policy = generic.ApiKeyPolicy(source, bucket_name=BUCKET, peek=True)
    await policy.check(BEARER)
    await policy.check(BEARER, cost=5)
    assert source.asked == [Demand(is_peek=True), Demand(cost=5)]


async def test_a_request_that_was_let_in_before_its_route_said_what_it_takes_is_a_mistake() -> None:
    source = Ledger()
    policy = fastapi.ApiKeyPolicy(source, bucket_name=BUCKET)
    router = APIRouter(dependencies=[Security(policy)])

    @router.get("/orders")
    async def orders(user: Any = Security(policy.charge(cost=5))) -> str:  # noqa: B008
        return str(user.sub)

    app = FastAPI()
    app.include_router(router)
    with pytest.raises(RuntimeError, match="before its route said"):
        await call(app, "GET", "/orders", headers=BEARER)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"cost": 0}, ValueError),
        ({"cost": 1_000_001}, ValueError),
        ({"cost": 1.5}, TypeError),
        ({"cost": True}, TypeError),
        ({"reserve": -1}, ValueError),
        ({"cost": 1, "peek": True}, ValueError),
        ({"cost": 1, "reserve": 1}, ValueError),
    ],
)
def test_what_can_not_be_taken_is_refused_where_it_is_said(said: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        drf.charge(**said)


@pytest.mark.parametrize(("cost", "error"), [(-1, ValueError), (1_000_001, ValueError), (0.5, TypeError)])
async def test_what_can_not_have_been_used_is_refused(cost: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await generic.ApiKeyPolicy(Ledger(), bucket_name=BUCKET).settle(TOKEN, cost)


async def test_a_source_that_settles_nothing_says_so() -> None:
    class Plain:
        def validate(self, secret: str, bucket: str) -> Result:
            return UNKNOWN

    policy = generic.ApiKeyPolicy(Plain(), bucket_name=BUCKET)
    assert await policy.settle(None, 7) is None
    with pytest.raises(TypeError, match="Plain has no settle_reservation"):
        await policy.settle(TOKEN, 7)
    with pytest.raises(TypeError, match="third parameter"):
        await policy.check(BEARER, cost=5)
