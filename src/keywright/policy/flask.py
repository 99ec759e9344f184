"""Owns the policy as part of a Flask app: checked before each request, and refused within the app.

    policy = ApiKeyPolicy(app, source, bucket_name="my-bucket")

    @app.get("/orders")
    @policy.require_scopes("orders:read")
    def orders(): ...

Whom a request comes from is in `flask.g.user` and `flask.g.auth`, and in the environ as keywright.policy.wsgi has it. A
refusal goes through what the app does after each request: CORS headers are on it as on every answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from flask import Response, current_app, g, request

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy.rules.charges import Charge, charge_of, charging
from keywright.policy.rules.demands import checked
from keywright.policy.rules.gate import Gate, Options, Refused, limit_fields
from keywright.policy.wsgi import AUTH, USER, authenticate, require

if TYPE_CHECKING:
    from flask import Flask

    from keywright.policy.rules.charges import Settlement
    from keywright.policy.rules.sources import Source, SourceFactory

View = TypeVar("View", bound=Callable[..., Any])


class ApiKeyPolicy:
    """Checks every request to `app`, also for addresses that it does not have."""

    def __init__(self, app: Flask, source: Source | SourceFactory, **options: Unpack[Options]) -> None:
        self._gate = Gate(source, **options)
        # First of all: what else is done before a request knows who it comes from.
        app.before_request_funcs.setdefault(None, []).insert(0, self._check)
        app.after_request(_tell)

    def _check(self) -> Response | None:
        environ = request.environ
        try:
            charge = charge_of(current_app.view_functions.get(request.endpoint or ""))
            g.user, g.auth = environ[USER], environ[AUTH] = authenticate(self._gate, environ, charge)
        except Refused as refused:
            return _answer(refused)
        return None

    def charge(
        self, *, cost: int | None = None, peek: bool = False, reserve: int | None = None
    ) -> Callable[[View], View]:
        """A decorator for views, right under the one of their route: what is taken of the key's quotas for them.
        `peek` takes nothing, `reserve` what `settle` says later. Raises TypeError, ValueError.
        """
        return charging(Charge.of(cost, reserve, peek=peek))

    def settle(self, reservation: str | None, cost: int) -> Settlement | None:
        """What `g.user.reservation` came to. Raises NotSettled, TypeError, ValueError."""
        return self._gate.settle_blocking(reservation, cost)

    def require_scopes(self, *scopes: str) -> Callable[[View], View]:
        """A decorator for views, under the one of their route: whose key is not good for all of it is refused.

        Raises TypeError, ValueError.
        """
        wanted = checked(scopes)

        def decorate(view: View) -> View:
            @functools.wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                try:
                    require(request.environ, wanted)
                except Refused as refused:
                    return _answer(refused)
                # Flask knows how to run a view that is a coroutine function.
                return current_app.ensure_sync(view)(*args, **kwargs)

            return cast("View", guarded)

        return decorate


def _tell(response: Response) -> Response:
    """What is told of the limits of the request's key goes on the answer."""
    user = request.environ.get(USER)
    if user is not None:
        response.headers.update(limit_fields(user))
    return response


def _answer(refused: Refused) -> Response:
    request_id = request_id_of_text(request.headers.get("x-request-id"))
    headers, body = render(refused.problem, request.path, request_id)
    return Response(body, refused.problem.status, headers)
