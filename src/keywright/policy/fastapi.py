"""Owns the policy as a FastAPI dependency: route by route, and in the application's OpenAPI document.

    policy = ApiKeyPolicy(source, bucket_name="my-bucket")
    app = FastAPI(lifespan=policy.lifespan)

    @app.get("/hello")
    async def hello(user: Annotated[User, Security(policy)]) -> User: ...

    @app.get("/orders")
    async def orders(user: Annotated[User, Security(policy, scopes=["orders:read"])]) -> list[Order]: ...

A route may return the user, too, whose form is in the OpenAPI document then. It is also in `request.user`. A refusal is
a `KeyRefused`; `answer_problem` makes a whole problem document of it.
"""

# No postponed annotations: FastAPI up to 0.120 does not resolve those of an instance's __call__, and would take the
# connection for a query parameter.

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Self, Unpack

from fastapi import FastAPI, HTTPException, Request, Response, WebSocketException
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBase
from fastapi.openapi.models import SecurityBase as SecurityModel
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from keywright.domain.problems import CONTENT_TYPE
from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy.asgi import POLICY_VIOLATION, authenticate
from keywright.policy.rules.charges import NO_CHARGE, Charge, NotSettled, Settlement
from keywright.policy.rules.gate import Gate, Options, Refused, limit_fields
from keywright.policy.rules.identity import Anonymous, User

if TYPE_CHECKING:
    from keywright.domain.problems import Problem
    from keywright.policy.rules.sources import Source, SourceFactory

__all__ = ["Anonymous", "ApiKeyPolicy", "KeyRefused", "NotSettled", "Settlement", "User", "answer_problem"]

_NO_SCOPES = SecurityScopes()


class KeyRefused(HTTPException):
    """FastAPI's own answer to it is a problem document already, if a short one: `{"detail": "The key is unknown."}`"""

    def __init__(self, problem: "Problem") -> None:
        super().__init__(problem.status, problem.detail, {**problem.headers, "content-type": CONTENT_TYPE})
        self.problem = problem


async def answer_problem(request: Request, refused: Exception) -> Response:
    """An exception handler: `app.add_exception_handler(KeyRefused, answer_problem)`."""
    if not isinstance(refused, KeyRefused):
        raise refused
    request_id = request_id_of_text(request.headers.get("x-request-id"))
    headers, body = render(refused.problem, request.scope["path"], request_id)
    return Response(body, refused.status_code, dict(headers))


class ApiKeyPolicy(SecurityBase):
    """A dependency whose value is the `User`; an `Anonymous` where requests without a good key are let through."""

    def __init__(
        self,
        source: "Source | SourceFactory",
        *,
        scheme_name: str = "ApiKey",
        description: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        """`scheme_name` and `description` are for the OpenAPI document."""
        self._gate = Gate(source, **options)
        self.scheme_name = scheme_name
        self.model = _model(self._gate, description)
        self._charge = NO_CHARGE

    async def __call__(
        self,
        connection: HTTPConnection,
        response: Response = None,  # type: ignore[assignment]
        security_scopes: SecurityScopes = _NO_SCOPES,
    ) -> User | Anonymous:
        """Called by FastAPI, with what `Security` demands here and in the dependencies above."""
        try:
            await authenticate(self._gate, connection.scope, security_scopes.scopes, self._charge)
        except Refused as refused:
            if connection.scope["type"] == "websocket":
                raise WebSocketException(POLICY_VIOLATION, refused.problem.detail) from None
            raise KeyRefused(refused.problem) from None
        user: User | Anonymous = connection.scope["user"]
        if response is not None:
            response.headers.update(limit_fields(user))
        return user

    def charge(self, *, cost: int | None = None, peek: bool = False, reserve: int | None = None) -> Self:
        """The same policy, for routes that take so much of the key's quotas: `Security(policy.charge(cost=5))`. `peek`
        takes nothing, `reserve` what `settle` says later. Where several dependencies of a route have the policy, the
        first one that is called says so. Raises TypeError, ValueError.
        """
        charging = copy(self)
        charging._charge = Charge.of(cost, reserve, peek=peek)
        return charging

    async def settle(self, reservation: str | None, cost: int) -> Settlement | None:
        """What `user.reservation` came to. Raises NotSettled, TypeError, ValueError."""
        return await self._gate.settle(reservation, cost)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Opens the source before the first request and closes it after the last; without it the first one opens it."""
        await self._gate.open()
        try:
            yield
        finally:
            await self._gate.close()


def _model(gate: Gate, description: str | None) -> SecurityModel:
    scheme = gate.openapi_scheme
    spoken = description or scheme.get("description")
    if scheme["type"] == "http":
        return HTTPBase(scheme=scheme["scheme"], description=spoken)
    return APIKey(name=scheme["name"], description=spoken, **{"in": APIKeyIn.header})  # type: ignore[arg-type]
