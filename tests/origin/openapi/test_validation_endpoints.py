"""What the OpenAPI document says of the edge's endpoints is what they answer: every status, body and header."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge.apps import Status, new_app
from edge.asgi import call
from edge.quotas.world import lend, reserve
from edge.world import DIGESTER, NOW, PEPPER_CHECK, batch, bucket, key
from endpoints.table import BUCKET, EXPIRED, NEVER_MADE, VALID, fill
from keywright.domain.limits import RateLimit
from keywright.domain.powers import encode_powers
from keywright.edge.app import EdgeApp
from keywright.edge.http.settle import MAX_BODY_BYTES as MAX_SETTLING_BYTES
from keywright.edge.http.validate import MAX_BODY_BYTES
from keywright.edge.identity_token import IdentitySigner, key_from_pepper
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.quotas.reservations import Reservations
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.origin.openapi.validation_endpoints import PATHS
from keywright.runtime.clock import Clock
from origin.world import document, resolved

VALIDATE, FORWARD_AUTH = "/v1/validate/{bucketName}", "/v1/forward-auth/{bucketName}"
VALIDATE_V2 = "/v2/validate/{bucketName}"
LIMITED = "zpka_limited-and-long-enough"
SETTLE = "/v2/settle"
JWKS = "/.well-known/jwks.json"
OF_LIMITS = ("ratelimit-policy", "ratelimit")
TOLD = ("www-authenticate", "retry-after", *OF_LIMITS)
"""Headers that are no identity's, and that a caller acts upon."""


@dataclass(frozen=True)
class Case:
    """A request, and which edge it is asked of."""

    path: str
    status: int
    key: str = VALID
    body: bytes | None = None
    content_type: bytes = b"application/json"
    min_revision: bytes | None = None
    bucket: str = BUCKET
    is_filled: bool = True
    is_synced: bool = True
    token_required: bool = False
    has_signer: bool = True
    times: int = 1
    """How often it is asked; the last answer is looked at."""
    is_full: bool = False
    settles: str = ""
    """Of which reservation it tells: "here" or "elsewhere"."""

    def __str__(self) -> str:
        return f"{self.path} {self.status}"


CASES = [
    Case(VALIDATE, 200),
    Case(VALIDATE, 200, key=EXPIRED),
    Case(VALIDATE, 400, body=b"{}"),
    Case(VALIDATE, 403, token_required=True),
    Case(VALIDATE, 404, bucket="nowhere"),
    Case(VALIDATE, 413, body=b" " * (MAX_BODY_BYTES + 1)),
    Case(VALIDATE, 415, content_type=b"text/plain"),
    Case(VALIDATE, 503, is_filled=False),
    Case(VALIDATE, 200, key=LIMITED, times=2),
    Case(VALIDATE_V2, 200),
    Case(VALIDATE_V2, 200, key=EXPIRED),
    Case(VALIDATE_V2, 200, key=LIMITED),
    Case(VALIDATE_V2, 200, key=LIMITED, times=2),
    Case(VALIDATE_V2, 400, body=b'{"key": "x", "cost": 0}'),
    Case(VALIDATE_V2, 403, token_required=True),
    Case(VALIDATE_V2, 404, bucket="nowhere"),
    Case(VALIDATE_V2, 413, body=b" " * (MAX_BODY_BYTES + 1)),
    Case(VALIDATE_V2, 415, content_type=b"text/plain"),
    Case(VALIDATE_V2, 503, is_filled=False),
    Case(SETTLE, 200, settles="here"),
    Case(SETTLE, 200, settles="here", times=2),
    Case(SETTLE, 400, body=b'{"reservation": "kwr1_none", "cost": 1}'),
    Case(SETTLE, 403, settles="here", token_required=True),
    Case(SETTLE, 404, settles="elsewhere"),
    Case(SETTLE, 413, body=b" " * (MAX_SETTLING_BYTES + 1)),
    Case(SETTLE, 415, content_type=b"text/plain"),
    Case(SETTLE, 503, settles="here", is_full=True),
    Case(FORWARD_AUTH, 200),
    Case(FORWARD_AUTH, 200, key=LIMITED),
    Case(FORWARD_AUTH, 429, key=LIMITED, times=2),
    Case(FORWARD_AUTH, 200, has_signer=False),
    Case(FORWARD_AUTH, 400, min_revision=b"x"),
    Case(FORWARD_AUTH, 401, key=NEVER_MADE),
    Case(FORWARD_AUTH, 403, token_required=True),
    Case(FORWARD_AUTH, 404, bucket="nowhere"),
    Case(FORWARD_AUTH, 503, is_filled=False),
    Case(JWKS, 200),
    Case(JWKS, 404, has_signer=False),
    Case("/livez", 200),
    Case("/readyz", 200),
    Case("/readyz", 200, is_synced=False),
    Case("/readyz", 503, is_filled=False, is_synced=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_an_answer_is_as_the_document_says(case: Case, tmp_path: Path) -> None:
    ((method, operation),) = document()["paths"][case.path].items()
    told = operation["responses"][str(case.status)]
    body = json.dumps({"key": case.key}).encode() if case.body is None else case.body
    headers = [] if case.min_revision is None else [(b"min-revision", case.min_revision)]
    headers.append((b"authorization", b"Bearer " + case.key.encode()))
    with edge(case, tmp_path) as app, reserved(case, tmp_path) as token:
        if token:
            body = json.dumps({"reservation": token, "cost": 3}).encode()
        for _ in range(case.times):
            answer = await call(
                app,
                method.upper(),
                case.path.replace("{bucketName}", case.bucket),
                body=body,
                headers=headers,
                content_type=case.content_type,
            )
    assert answer.status == case.status
    if "content" in told:
        content = told["content"][answer.headers["content-type"]]
        Draft202012Validator(nothing_more(resolved(content["schema"]))).validate(answer.json())
    else:
        assert answer.body == b""
    # The id of the request is http/request_id's own test.
    named = {name.lower() for name in told["headers"]} - {"x-request-id"}
    given = {name for name in answer.headers if name.startswith("x-") or name in TOLD} - {"x-request-id"}
    # Those are there where a limit holds.
    assert given - set(OF_LIMITS) == named - set(OF_LIMITS)
    assert given & set(OF_LIMITS) == (named & set(OF_LIMITS) if case.key == LIMITED else set())


def test_every_answer_that_the_document_speaks_of_was_seen() -> None:
    spoken_of = {
        (path, int(status))
        for path, methods in PATHS.items()
        for operation in methods.values()
        for status in operation["responses"]
    }
    # A body that does not come within 30 seconds is played in tests/http/test_body.py.
    too_slow = {(VALIDATE, 408), (VALIDATE_V2, 408), (SETTLE, 408)}
    assert {(case.path, case.status) for case in CASES} | too_slow == spoken_of


@contextlib.contextmanager
def edge(case: Case, directory: Path) -> Iterator[EdgeApp]:
    with contextlib.closing(Replica.open(directory / "replica", PEPPER_CHECK)) as replica:
        status = Status()
        if case.is_filled:
            fill(replica)
            limit = encode_powers(rate_limits=[RateLimit("burst", 1, 3600)])
            powers = replace(bucket(1, BUCKET), features=("rateLimits",))
            replica.apply(batch(4, [powers, replace(key(LIMITED, 1, 1), powers=limit)]))
        else:
            status.revision = None
        if not case.is_synced:
            status.is_synced, status.reason = False, "OriginUnavailable: no route"
        signer = None
        if case.has_signer:
            signer = IdentitySigner(key_from_pepper(DIGESTER), issuer="keywright", seconds=60, clock=lambda: NOW)
        takers = Takers(LimitTable(replica.path / "limits", Clock().elapsed))
        validator = Validator(replica, DIGESTER, clock=lambda: NOW, takers=takers)
        quotas = lend(directory / "here")
        if case.is_full:
            quotas.table.settle = refuse_for_a_full_disk  # type: ignore[method-assign]
        reservations = Reservations(DIGESTER, quotas)
        yield new_app(validator, status, token_required=case.token_required, signer=signer, reservations=reservations)
        quotas.close()


def refuse_for_a_full_disk(*arguments: object, **more: object) -> Any:
    raise OSError(28, "No space left on device")


@contextlib.contextmanager
def reserved(case: Case, directory: Path) -> Iterator[str]:
    """The token of a reservation, if the case tells of one."""
    if not case.settles:
        yield ""
        return
    with contextlib.closing(lend(directory / case.settles)) as quotas:
        yield Reservations(DIGESTER, quotas).seal(BUCKET, reserve(quotas, 5))


def nothing_more(schema: Any) -> Any:
    """The schema, which now refuses members that it does not speak of."""
    if isinstance(schema, list):
        return [nothing_more(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: nothing_more(one) for name, one in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
