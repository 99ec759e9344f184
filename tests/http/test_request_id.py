"""One rule for the id of a request, at every endpoint of both planes and of the policy."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge.asgi import call
from keywright.domain.verdict import Result, Verdict
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.http.request_id import new_request_id, request_id, request_id_in, request_id_of_text
from keywright.policy.asgi import ApiKeyPolicy as AsgiPolicy
from keywright.policy.wsgi import ApiKeyPolicy as WsgiPolicy
from keywright.runtime import logging as logs
from support.service import Service

NEW = re.compile(r"[0-9a-f]{32}")
TAKEN = ["a", "abc-1", "two words", '"quoted"', "{}<>;,=~", "x" * 128]
NOT_TAKEN = [b"", b"x" * 129, b"a\nb", b"a\tb", b"a\x00", b"\xff", b"a\x7f", b" a", b"a "]
PAGES = ["/livez", "/readyz", "/metrics", "/v1/nothing", "/openapi.json", "/docs", "/v1/feed", "/admin/nothing"]


@pytest.mark.parametrize("given", TAKEN)
def test_a_printable_id_is_taken(given: str) -> None:
    assert request_id(given.encode()) == given.encode()
    assert request_id_of_text(given) == given
    assert request_id_in([(b"a", b"b"), (b"x-request-id", given.encode()), (b"x-request-id", b"2")]) == given.encode()


@pytest.mark.parametrize("given", [None, *NOT_TAKEN])
def test_anything_else_gets_a_new_id(given: bytes | None) -> None:
    assert NEW.fullmatch(request_id(given).decode())
    assert NEW.fullmatch(request_id_of_text(None if given is None else given.decode("latin-1")))


def test_new_ids_differ() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


class Nobody:
    """A source that knows no key."""

    def validate(self, secret: str, bucket: str) -> Result:
        return Result(Verdict.UNKNOWN, None, None)

    def knows_bucket(self, bucket: str) -> bool:
        return False


class NoReplica:
    """A validator that fails as only a bug makes it fail, or has no bucket."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    def validate(self, secret: str, bucket: str) -> Result:
        if self._failure is not None:
            raise self._failure
        return Result(Verdict.UNKNOWN, None, None)

    def knows_bucket(self, bucket: str) -> bool:
        return False


def _wsgi(given: bytes) -> dict[str, str]:
    answered: dict[str, str] = {}
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_REQUEST_ID": given.decode("latin-1")}
    app = WsgiPolicy(lambda *_: [], Nobody(), bucket_name="my-bucket")
    list(app(environ, lambda status, headers, *_: answered.update(headers)))
    return answered


async def _not_reached(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


async def ask_endpoint(name: str, given: bytes) -> dict[str, str]:
    """The headers of an answer of an edge's or a policy's endpoint, of one that a valid question gets and others."""
    headers = [(b"x-request-id", given)]
    with_key = [*headers, (b"authorization", b"Bearer 12345678")]
    policy = AsgiPolicy(_not_reached, Nobody(), bucket_name="b-name")
    validator: Any = NoReplica()
    broken: Any = NoReplica(RuntimeError("a bug"))
    ask = b'{"key":"zpka_secret-1"}'
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "validate": lambda: call(ValidateApi(validator), "POST", "/v1/validate/b-name", body=ask, headers=headers),
        "validate-refused": lambda: call(ValidateApi(validator), "GET", "/v1/validate/b-name", headers=headers),
        "validate-broken": lambda: call(ValidateApi(broken), "POST", "/v1/validate/b-name", body=ask, headers=headers),
        "forward-auth": lambda: call(ForwardAuth(validator), "GET", "/v1/forward-auth/b-name", headers=headers),
        "forward-auth-broken": lambda: call(ForwardAuth(broken), "GET", "/v1/forward-auth/b-name", headers=with_key),
        "policy-asgi": lambda: call(policy, "GET", "/", headers=headers),
    }
    if name == "policy-wsgi":
        return _wsgi(given)
    answer = await asked[name]()
    return dict(answer.headers)


ENDPOINTS = [
    "validate", "validate-refused", "validate-broken", "forward-auth", "forward-auth-broken", "policy-asgi",
    "policy-wsgi",
]  # fmt: skip


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("given", [b"two words", b"x" * 128])
async def test_an_endpoint_of_edge_and_policy_repeats_an_id(name: str, given: bytes) -> None:
    assert (await ask_endpoint(name, given))["x-request-id"] == given.decode()


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_an_endpoint_of_edge_and_policy_makes_an_id(name: str) -> None:
    assert NEW.fullmatch((await ask_endpoint(name, b"\xff"))["x-request-id"])


@pytest.mark.parametrize("path", PAGES)
async def test_every_answer_of_a_service_has_the_id(embedded: Service, path: str) -> None:
    for given, is_taken in (("two words", True), ("x" * 128, True), ("x" * 129, False)):
        answer = await embedded.client.get(path, headers={"x-request-id": given})
        found = answer.headers.get_list("x-request-id")
        assert len(found) == 1
        assert (found[0] == given) is is_taken
        assert is_taken or NEW.fullmatch(found[0])
        if answer.headers["content-type"] == "application/problem+json":
            assert answer.json()["requestId"] == found[0]


async def test_answers_to_good_questions_have_the_id_too(embedded: Service) -> None:
    key = (await embedded.new_key((await embedded.new_consumer())["name"]))["key"]
    headers = {"x-request-id": "mine"}
    validated = await embedded.client.post(f"/v1/validate/{embedded.bucket}", json={"key": key}, headers=headers)
    bearer = {**headers, "authorization": f"Bearer {key}"}
    authenticated = await embedded.client.get(f"/v1/forward-auth/{embedded.bucket}", headers=bearer)
    for answer in (validated, authenticated):
        assert (answer.status_code, answer.headers.get_list("x-request-id")) == (200, ["mine"])


async def test_a_line_in_the_log_of_a_request_can_have_its_id(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def note(*_: Any, **__: Any) -> Any:
        seen.append(logs.request_id.get())
        raise RuntimeError("a bug")

    monkeypatch.setattr(
        "keywright.origin.pipeline.respond.log.error", lambda *_, **__: seen.append(logs.request_id.get())
    )
    monkeypatch.setattr("keywright.origin.auth.bearer.authenticate", note)
    await embedded.client.get(embedded.bucket_url, headers={"x-request-id": "mine"})
    assert seen == ["mine", "mine"]
