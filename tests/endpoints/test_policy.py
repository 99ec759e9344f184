"""Every adapter of the policy, on every source, gives every key state the verdict that the edge's endpoints give it."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Security
from flask import Flask, request

from edge.apps import new_app
from edge.asgi import Answer, call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, MemoryFeed
from endpoints.table import ROWS, Headers, Outcome, Row, fill
from endpoints.test_endpoints import CHALLENGES, REASONS
from keywright.domain.problems import CONTENT_TYPE
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.policy import asgi, fastapi, flask, generic, wsgi
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.remote import RemoteEdge
from keywright.policy.shared import SharedReplica
from policy.wsgi import call as call_wsgi
from support.clock import FakeClock
from support.http import serving, through_asgi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from keywright.policy.rules.sources import Source

PEPPER = base64.b64encode(b"pepper of the tests, 32 bytes ok").decode()


class ClosableFeed(MemoryFeed):
    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("filled") / "replica"
    replica = Replica.open(path, PEPPER_CHECK)
    fill(replica)
    replica.close()
    return path


@pytest.fixture(scope="module", params=["embedded", "shared", "remote"])
def source(request: pytest.FixtureRequest, filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    directory = tmp_path_factory.mktemp(request.param)
    shutil.copytree(filled, directory / "replica")
    if request.param == "remote":
        replica = Replica.open(directory / "replica", PEPPER_CHECK)
        endpoint = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
        with serving(through_asgi(endpoint)) as url:
            # The standard library's server in one thread for each connection: slow under load, and not what is tested.
            remote = RemoteEdge(url, timeout_seconds=60)
            yield remote
            remote.close()
        replica.close()
        return
    opened: EmbeddedReplica | SharedReplica
    if request.param == "embedded":
        feed = ClosableFeed(start=4)
        opened = EmbeddedReplica(directory, lambda *_: feed, pepper=PEPPER, ready_seconds=60)
    else:
        opened = SharedReplica(directory, pepper=PEPPER, ready_seconds=60)
    opened._clock = FakeClock(wall=NOW / 1000)
    opened._origin_clock = OriginClock(None, opened._clock)
    yield opened
    opened.close()


async def _asgi(source: Source, bucket: str, headers: Headers) -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = scope["user"].sub.encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    policy = asgi.ApiKeyPolicy(app, source, bucket_name=bucket)
    return await _closing(source, call(policy, "PUT", "/", headers=headers))


async def _fastapi(source: Source, bucket: str, headers: Headers) -> Answer:
    app = FastAPI()
    app.add_exception_handler(fastapi.KeyRefused, fastapi.answer_problem)
    policy = fastapi.ApiKeyPolicy(source, bucket_name=bucket)

    @app.put("/")
    async def hello(user: fastapi.User = Security(policy)) -> str:  # noqa: B008
        return user.sub

    answer = await _closing(source, call(app, "PUT", "/", headers=headers))
    answer.body = answer.body.strip(b'"') if answer.status == 200 else answer.body
    return answer


async def _wsgi(source: Source, bucket: str, headers: Headers) -> Answer:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["keywright.user"].sub.encode()]

    return call_wsgi(wsgi.ApiKeyPolicy(app, source, bucket_name=bucket), "PUT", "/", headers=headers)


async def _flask(source: Source, bucket: str, headers: Headers) -> Answer:
    app = Flask(__name__)
    flask.ApiKeyPolicy(app, source, bucket_name=bucket)
    app.put("/")(lambda: request.environ["keywright.user"].sub)
    return call_wsgi(app.wsgi_app, "PUT", "/", headers=headers, is_checked=False)


async def _generic(source: Source, bucket: str, headers: Headers) -> Answer:
    policy = generic.ApiKeyPolicy(source, bucket_name=bucket)
    user, _, refusal = await _closing(source, policy.check(headers, method="PUT"))
    if refusal is None:
        return Answer(200, {}, user.sub.encode(), 0)
    return Answer(refusal.status, dict(refusal.headers), refusal.body, 0)


async def _django(source: Source, bucket: str, headers: Headers) -> Answer:
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    from policy import django_site  # noqa: F401

    settings = {"SOURCE": source, "BUCKET_NAME": bucket, "EXEMPT_PATHS": []}
    middleware = ["keywright.policy.django.ApiKeyMiddleware"]
    with override_settings(KEYWRIGHT=settings, MIDDLEWARE=middleware):
        answer = call_wsgi(WSGIHandler(), "PUT", "/name", headers=headers, is_checked=False)
    if answer.status != 200:
        answer.body = answer.body.replace(b'"instance":"/name"', b'"instance":"/"')
    return answer


async def _drf(source: Source, bucket: str, headers: Headers) -> Answer:
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    from policy import django_site  # noqa: F401

    with override_settings(KEYWRIGHT={"SOURCE": source, "BUCKET_NAME": bucket}):
        answer = call_wsgi(WSGIHandler(), "PUT", "/", headers=headers, is_checked=False)
    if answer.status == 200:
        answer.body = answer.json()["sub"].encode()
    return answer


async def _closing(source: Source, answer: Any) -> Answer:
    """A test has an event loop of its own, and so has what is open in it."""
    try:
        return await answer
    finally:
        if isinstance(source, RemoteEdge):
            await source.close_async()


def _outcome(answer: Answer) -> Outcome:
    if answer.status == 200:
        return Outcome("VALID", answer.body.decode())
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert (document["status"], document["instance"]) == (answer.status, "/")
    assert document["requestId"] == answer.headers["x-request-id"]
    if answer.status == 503:
        # The bucket is the application's own setting: no mistake of the client's, so no 404.
        assert answer.headers["retry-after"] == "1"
        return Outcome("NO_BUCKET")
    assert answer.status == 401
    code = REASONS[document["detail"]]
    assert answer.headers["www-authenticate"] == CHALLENGES.get(code, 'Bearer error="invalid_token"')
    return Outcome(code)


ADAPTERS = [_asgi, _fastapi, _wsgi, _flask, _django, _drf, _generic]
# Without a key there is nothing to ask a source, and so nothing that would tell that there is no bucket.
ASKED = [row for row in ROWS if row.name != "no header, no bucket"]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.__name__.removeprefix("_"))
@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.name)
async def test_every_door_of_the_policy_agrees_on_every_source(
    source: Source, adapter: Callable[..., Any], row: Row
) -> None:
    headers = row.headers
    if headers is None:
        headers = [(b"authorization", b"Bearer " + row.secret.encode())]
    assert _outcome(await adapter(source, row.bucket, headers)) == row.expected
