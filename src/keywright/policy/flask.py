"""Owns the policy as part of a Flask app: checked before each request, and refused within the app.

    ApiKeyPolicy(app, source, bucket_name="my-bucket")

Whom a request comes from is in `flask.g.user` and `flask.g.auth`, and in the environ as keywright.policy.wsgi has it. A
refusal goes through what the app does after each request: CORS headers are on it as on every answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from flask import Response, g, request

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy.rules.gate import Gate, Options, Refused
from keywright.policy.wsgi import AUTH, USER, authenticate

if TYPE_CHECKING:
    from flask import Flask

    from keywright.policy.rules.sources import Source, SourceFactory


class ApiKeyPolicy:
    """Checks every request to `app`, also for addresses that it does not have."""

    def __init__(self, app: Flask, source: Source | SourceFactory, **options: Unpack[Options]) -> None:
        self._gate = Gate(source, **options)
        # First of all: what else is done before a request knows who it comes from.
        app.before_request_funcs.setdefault(None, []).insert(0, self._check)

    def _check(self) -> Response | None:
        environ = request.environ
        try:
            g.user, g.auth = environ[USER], environ[AUTH] = authenticate(self._gate, environ)
        except Refused as refused:
            request_id = request_id_of_text(request.headers.get("x-request-id"))
            headers, body = render(refused.problem, request.path, request_id)
            return Response(body, refused.problem.status, headers)
        return None
