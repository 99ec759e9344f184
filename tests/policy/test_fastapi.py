"""The policy as a FastAPI dependency: what routes get and may return, what is refused, what the document says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from fastapi import FastAPI, Header, Request, Security, WebSocket
from pydantic import BaseModel
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from keywright.policy import fastapi
from policy.keys import EXPIRED, Keys

GOOD = {"authorization": "Bearer zpka_gold"}
FORGED = {"x-consumer-name": "admin", "x-consumer-metadata": "%7B%7D"}


@pytest.fixture
def keys() -> Keys:
    return Keys()


def _fastapi(keys: Keys, **options: Any) -> FastAPI:
    policy = fastapi.ApiKeyPolicy(keys, bucket_name="my-bucket", **options)
    app = FastAPI(lifespan=policy.lifespan)

    @app.get("/hello")
    async def hello(
        request: Request,
        user: fastapi.User = Security(policy),  # noqa: B008
        x_consumer_name: str | None = Header(None),
    ) -> dict[str, Any]:
        return {
            "sub": user.sub,
            "same": request.user is user,
            "header": x_consumer_name or request.headers.get("x-consumer-name"),
        }

    @app.get("/open")
    async def unprotected() -> str:
        return "open"

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, user: fastapi.User = Security(policy)) -> None:  # noqa: B008
        await websocket.accept()
        await websocket.send_text(user.sub)
        await websocket.close()

    return app


def test_fastapi_protects_route_by_route(keys: Keys) -> None:
    with TestClient(_fastapi(keys)) as client:
        assert keys.steps == ["open"]
        assert client.get("/open").status_code == 200
        answer = client.get("/hello", headers={**GOOD, **FORGED})
        assert answer.json() == {"sub": "acme", "same": True, "header": None}
        answer = client.get("/hello", headers={"authorization": f"Bearer {EXPIRED}"})
        assert (answer.status_code, answer.json()) == (401, {"detail": "The key has expired."})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        with client.websocket_connect("/ws", headers=GOOD) as socket:
            assert socket.receive_text() == "acme"
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/ws"):
            pass
        assert refused.value.code == 1008
    assert keys.steps == ["open", "close"]


@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        ({}, {"type": "http", "scheme": "bearer"}),
        ({"auth_scheme": "Key"}, {"type": "http", "scheme": "key"}),
        ({"auth_scheme": ""}, {"type": "apiKey", "in": "header", "name": "authorization"}),
        ({"auth_header": "X-API-Key", "auth_scheme": ""}, {"type": "apiKey", "in": "header", "name": "x-api-key"}),
        (
            {"auth_header": "X-Auth"},
            {"type": "apiKey", "in": "header", "name": "x-auth", "description": "The key, after `Bearer `."},
        ),
    ],
)
def test_the_openapi_document_says_which_routes_want_a_key_and_where(keys: Keys, options: Any, scheme: Any) -> None:
    document = _fastapi(keys, **options).openapi()
    assert document["components"]["securitySchemes"] == {"ApiKey": scheme}
    assert document["paths"]["/hello"]["get"]["security"] == [{"ApiKey": []}]
    assert "security" not in document["paths"]["/open"]["get"]


class Name(BaseModel):
    sub: str


def test_a_route_may_return_the_user_and_the_document_says_what_that_is(keys: Keys) -> None:
    app, security = FastAPI(), Security(fastapi.ApiKeyPolicy(keys, bucket_name="my-bucket"))

    async def whoever(user: fastapi.User = security) -> Any:
        return user

    async def within(user: fastapi.User = security) -> Any:
        return {"user": user}

    whole = {"sub": "acme", "data": {"plan": "gold"}, "consumer_id": "csmr_1", "key_id": "key_1"}
    client = TestClient(app)
    for path, route, model, body in (
        ("/plain", whoever, None, whole),
        ("/typed", whoever, fastapi.User, whole),
        ("/part", whoever, Name, {"sub": "acme"}),
        ("/within", within, None, {"user": whole}),
    ):
        app.get(path, response_model=model)(route)
        answer = client.get(path, headers=GOOD)
        assert (path, answer.status_code, answer.json()) == (path, 200, body)
    described = app.openapi()["components"]["schemas"]["User"]
    assert (set(described["properties"]), described["required"]) == (set(whole), list(whole))


def test_every_fastapi_can_tell_what_the_dependency_wants() -> None:
    # Up to 0.120 it does not resolve the text of an annotation here, and takes the connection for a query parameter.
    for parameter in inspect.signature(fastapi.ApiKeyPolicy.__call__).parameters.values():
        assert not isinstance(parameter.annotation, str)
