"""The edge as one ASGI callable: which endpoint answers at which path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge.apps import Status, new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW
from endpoints.table import BUCKET, VALID, fill
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

ASK = b'{"key":"%b"}' % VALID.encode()
BEARER = [(b"authorization", b"Bearer " + VALID.encode())]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"/v1/validate/{BUCKET}", 200),
        ("GET", f"/v1/forward-auth/{BUCKET}", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/.well-known/jwks.json", 404),
        ("GET", "/v1/accounts", 404),
        ("GET", "/v1/validated", 404),
        ("GET", "/", 404),
    ],
)
async def test_each_path_has_its_endpoint_and_no_other_path_has_one(
    replica: Replica, method: str, path: str, status: int
) -> None:
    fill(replica)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    answer = await call(app, method, path, body=ASK if method == "POST" else b"", headers=BEARER)
    assert answer.status == status
    assert (app.find_endpoint(path) is None) is (status == 404)


class BrokenStatus(Status):
    @property
    def revision(self) -> int:  # type: ignore[override]
        raise OSError("no such thing")


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
async def test_a_bug_of_ours_is_told_as_a_problem_everywhere(
    replica: Replica, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    status = BrokenStatus()
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW), status)
    answer = await call(app, "GET", path, headers=[(b"x-request-id", b"mine")])
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["requestId"] == "mine"
    assert "request mine failed" in caplog.text
