"""The policy within a Flask app, where a refusal is an answer of the app; and around one, where it isn't."""

from __future__ import annotations

from typing import Any

import flask_cors
import pytest
from flask import Flask, g, request

from keywright.policy import flask, wsgi
from policy.keys import EXPIRED, LOST, Keys

GOOD = {"authorization": "Bearer zpka_gold"}
ORIGIN = {"origin": "https://a.example"}


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)

    @app.route("/", methods=["GET", "PUT"])
    def hello() -> dict[str, Any]:
        user = request.environ["keywright.user"]
        named = g.user.sub if "user" in g else None
        return {"sub": user.sub, "g": named, "forged": request.headers.get("x-consumer-name")}

    return app


def test_an_app_has_the_consumer_in_g_and_nothing_that_a_client_made_up(app: Flask) -> None:
    flask.ApiKeyPolicy(app, Keys(), bucket_name="my-bucket")
    answer = app.test_client().get("/", headers={**GOOD, "x-consumer-name": "admin"})
    assert answer.get_json() == {"sub": "acme", "g": "acme", "forged": None}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/nowhere", {}, 401),
        ("/", {"authorization": f"Bearer {EXPIRED}"}, 401),
        ("/", {"authorization": f"Bearer {LOST}"}, 503),
    ],
)
def test_a_refusal_within_an_app_has_the_headers_of_every_answer(
    app: Flask, path: str, headers: Any, status: int
) -> None:
    flask_cors.CORS(app, origins=["https://a.example"], expose_headers=["x-request-id"])
    flask.ApiKeyPolicy(app, Keys(), bucket_name="my-bucket")
    answer = app.test_client().get(path, headers={**headers, **ORIGIN})
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-expose-headers"] == "x-request-id"
    assert answer.get_json()["instance"] == path


def test_preflights_pass_to_the_apps_own_answer(app: Flask) -> None:
    flask_cors.CORS(app, origins=["https://a.example"])
    flask.ApiKeyPolicy(app, Keys(), bucket_name="my-bucket", allow_cors_preflight=True)
    headers = {**ORIGIN, "access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
    answer = app.test_client().options("/", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, "authorization")


def test_the_policy_comes_before_all_else_that_is_done_before_a_request(app: Flask) -> None:
    seen: list[str] = []
    app.before_request(lambda: seen.append(g.user.sub))
    flask.ApiKeyPolicy(app, Keys(), bucket_name="my-bucket")
    assert app.test_client().get("/").status_code == 401
    assert app.test_client().get("/", headers=GOOD).status_code == 200
    assert seen == ["acme"]


def test_around_an_app_it_is_what_stands_around_the_policy_that_sees_refusals(app: Flask) -> None:
    protected = wsgi.ApiKeyPolicy(app.wsgi_app, Keys(), bucket_name="my-bucket")

    def around(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("access-control-allow-origin", "*")])

        return protected(environ, start)

    app.wsgi_app = around  # type: ignore[method-assign]
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
