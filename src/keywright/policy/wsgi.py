"""Owns the policy as WSGI middleware: Flask, Django, and whatever else is WSGI.

    app.wsgi_app = ApiKeyPolicy(app.wsgi_app, source, bucket_name="my-bucket")
    orders = RequireScopes(orders, scopes=["orders:read"])      a part of it, inside of the policy

Whom a request comes from is in `environ["keywright.user"]` and `environ["keywright.auth"]`. Bodies are not touched. A
replica is opened by the first request, in the process that it comes to: after the fork of a server that forks.

A refusal is the policy's own answer, which the app never sees: what puts headers on every answer, such as CORS, stands
around the policy. In Flask such things are mostly inside; keywright.policy.flask is, too.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Unpack, cast

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy.rules.charges import NO_CHARGE, Charge
from keywright.policy.rules.demands import checked
from keywright.policy.rules.gate import FORGEABLE_HEADERS, GATE, Gate, Options, Refused, Request, limit_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence
    from wsgiref.types import StartResponse, WSGIApplication

    from keywright.domain.networks import Address
    from keywright.domain.problems import Problem
    from keywright.policy.rules.clients import AppClients
    from keywright.policy.rules.identity import Anonymous, Credential, User
    from keywright.policy.rules.sources import Source, SourceFactory

USER, AUTH = "keywright.user", "keywright.auth"
_FORGEABLE = [f"HTTP_{name.decode().upper().replace('-', '_')}" for name in sorted(FORGEABLE_HEADERS)]


class ApiKeyPolicy:
    """Checks the requests to `app`."""

    def __init__(self, app: WSGIApplication, source: Source | SourceFactory, **options: Unpack[Options]) -> None:
        self._app = app
        self._gate = Gate(source, **options)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ[USER], environ[AUTH] = authenticate(self._gate, environ)
        except Refused as refused:
            return _answer(environ, start_response, refused.problem)
        fields = limit_fields(environ[USER])
        return self._app(environ, _telling(start_response, fields) if fields else start_response)


class RequireScopes:
    """Lets those on to `app`, a part of an application with the policy, whose key is good for all of `scopes`."""

    def __init__(self, app: WSGIApplication, scopes: Sequence[str]) -> None:
        """Raises TypeError, ValueError."""
        self._app = app
        self._scopes = checked(scopes)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            require(environ, self._scopes)
        except Refused as refused:
            return _answer(environ, start_response, refused.problem)
        return self._app(environ, start_response)


def require(environ: MutableMapping[str, Any], scopes: tuple[str, ...]) -> None:
    """Refuse a request whose key is not good for these scopes, in the policy that it came through. Raises Refused."""
    gate: Gate | None = environ.get(GATE)
    if gate is None:
        raise RuntimeError("scopes are demanded inside of a policy, which has not seen this request")
    gate.require(environ.get(USER), scopes)


def authenticate(
    gate: Gate, environ: MutableMapping[str, Any], charge: Charge = NO_CHARGE
) -> tuple[User | Anonymous, Credential]:
    """Whom the request comes from; what it claims itself is taken out. Raises Refused."""
    return gate.check(read(gate, environ, _path_of(environ)), (), charge)


def read(gate: Gate, environ: MutableMapping[str, Any], path: str) -> Request:
    """What the policy looks at. What the request claims itself is taken out of the environ."""
    environ[GATE] = gate
    variable = f"HTTP_{gate.header.name.decode().upper().replace('-', '_')}"
    value = environ.get(variable)
    for name in _FORGEABLE:
        if name != variable:
            environ.pop(name, None)
    is_cors = "HTTP_ORIGIN" in environ and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    # PEP 3333: these texts stand for bytes.
    return Request(
        path,
        [] if value is None else gate.split_joined(value.encode("latin-1", "replace")),
        environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        is_cors and environ["REQUEST_METHOD"] == "OPTIONS",
        None if gate.clients is None else partial(_find_client, gate.clients, environ),
    )


def _telling(start_response: StartResponse, fields: Mapping[str, str]) -> StartResponse:
    """What puts these fields on the answer, whatever the application makes it."""

    def starting(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, *fields.items()], *exc_info)

    return cast("StartResponse", starting)


def _find_client(clients: AppClients, environ: MutableMapping[str, Any]) -> Address | None:
    # Several headers of one name have become one value, with commas.
    value = environ.get(f"HTTP_{clients.header.upper().replace('-', '_')}") if clients.header else None
    return clients.find(environ.get("REMOTE_ADDR", ""), [] if value is None else [value])


def _answer(environ: MutableMapping[str, Any], start_response: StartResponse, problem: Problem) -> Iterable[bytes]:
    request_id = request_id_of_text(environ.get("HTTP_X_REQUEST_ID"))
    headers, body = render(problem, _path_of(environ), request_id)
    start_response(f"{problem.status} {HTTPStatus(problem.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _path_of(environ: MutableMapping[str, Any]) -> str:
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"
