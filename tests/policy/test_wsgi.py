"""What is different about WSGI: joined headers, texts that stand for bytes, an environ instead of a scope."""

from __future__ import annotations

import io
from typing import Any

import pytest

from edge.asgi import Answer
from keywright.policy.wsgi import ApiKeyPolicy
from policy.keys import BEARER, EXPIRED, GOLD, LOST, Keys
from policy.wsgi import call


class Probe:
    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.environs.append(dict(environ))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"hello"]


def protected(**options: Any) -> tuple[Probe, ApiKeyPolicy]:
    probe = Probe()
    return probe, ApiKeyPolicy(probe, Keys(), **{"bucket_name": "my-bucket", **options})


def ask(policy: Any, path: str = "/", headers: Any = (), method: str = "GET", **more: Any) -> Answer:
    return call(policy, method, path, headers=headers, **more)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer zpka_gold,Bearer zpka_gold",
        b"Bearer zpka_gold, bearer zpka_gold",
        b"Bearer zpka_other,Bearer zpka_gold",
    ],
)
def test_headers_that_a_server_has_joined_are_told_apart_and_refused(value: bytes) -> None:
    probe, policy = protected()
    answer = ask(policy, headers=[(b"authorization", value)])
    assert (answer.status, answer.json()["detail"]) == (401, "There is more than one header with a key.")
    assert probe.environs == []


def test_a_joined_bare_header_is_no_key() -> None:
    _, policy = protected(auth_header="x-api-key", auth_scheme="")
    assert ask(policy, headers=[(b"x-api-key", b"zpka_gold,zpka_gold")]).status == 401
    assert ask(policy, headers=[(b"x-api-key", b"zpka_gold")]).status == 200


def test_a_good_key_gives_the_app_its_consumer_and_nothing_that_the_client_made_up() -> None:
    probe, policy = protected(exempt_paths=["/health"])
    forged = [(b"x-consumer-name", b"admin"), (b"x_key_id", b"key_9"), (b"x-consumer-token", b"ey"), (b"x-other", b"1")]
    more = {"keywright.user": "forged", "keywright.auth": "forged"}
    assert ask(policy, headers=[*BEARER, *forged], **more).status == 200
    assert ask(policy, "/health", headers=forged, **more).status == 200
    good, exempt = probe.environs
    assert (good["keywright.user"].sub, good["keywright.user"].data) == ("acme", {"plan": "gold"})
    assert good["keywright.auth"].key_id == "key_1"
    assert (exempt["keywright.user"].code, exempt["keywright.auth"].key_id) == ("EXEMPT", None)
    for environ in (good, exempt):
        assert [name for name in environ if name.startswith("HTTP_X")] == ["HTTP_X_OTHER"]


def test_options_mean_what_they_mean_in_asgi() -> None:
    _, policy = protected(query_parameter="key", exempt_paths=["/öffentlich"], allow_cors_preflight=True)
    assert ask(policy, "/?key=zpka_gold").status == 200
    assert ask(policy, "/?key=zpka_gold", headers=BEARER).status == 401
    assert ask(policy, "/%C3%B6ffentlich").status == 200
    assert ask(policy, "/%c3%b6ffentlich/x").status == 401
    assert ask(policy, "/%C3%B6ffentlich", SCRIPT_NAME="/mounted").status == 200
    preflight = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"PUT")]
    assert ask(policy, headers=preflight, method="OPTIONS").status == 200
    assert ask(policy, headers=preflight, method="GET").status == 401
    probe, policy = protected(allow_unauthenticated_requests=True)
    assert ask(policy, headers=[(b"authorization", f"Bearer {EXPIRED}".encode())]).status == 200
    assert probe.environs[-1]["keywright.user"].code == "EXPIRED"
    assert ask(policy, headers=[(b"authorization", f"Bearer {LOST}".encode())]).status == 503


def test_a_refused_head_has_no_body() -> None:
    _, policy = protected()
    head, get = ask(policy, method="HEAD"), ask(policy)
    assert (head.status, head.body, head.headers["content-length"]) == (401, b"", str(len(get.body)))
    assert head.headers["content-type"] == "application/problem+json"


def test_a_body_of_100_mb_streams_through_and_a_refused_one_is_not_read() -> None:
    class Body(io.RawIOBase):
        left = 100 * 1024 * 1024
        largest = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0, "somebody wants all of it at once"
            Body.largest = max(Body.largest, size)
            size = min(size, Body.left)
            Body.left -= size
            return bytes(size)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        while environ["wsgi.input"].read(65536):
            pass
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    policy = ApiKeyPolicy(app, Keys(), bucket_name="my-bucket")
    assert call(policy, "PUT", "/", body=Body()).status == 401
    assert Body.left == 100 * 1024 * 1024
    assert call(policy, "PUT", "/", headers=BEARER, body=Body()).status == 200
    assert (Body.left, Body.largest) == (0, 65536)


def test_no_answer_repeats_the_key() -> None:
    _, policy = protected()
    answer = ask(policy, f"/{GOLD}x", headers=[(b"authorization", b"Bearer secret-of-a-stranger")])
    assert b"secret-of-a-stranger" not in answer.body
    assert "secret-of-a-stranger" not in str(answer.headers)
