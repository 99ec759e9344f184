"""Owns what each request to the origin gets: an id, an actor, a rate, a checked body, one transaction, an audit entry.

A route of the Developer API is an `OriginRoute`. Its endpoint receives the `Work` of an open transaction; when it
returns, the transaction commits, the bell rings and only then the answer goes out. Whatever it raises becomes a
problem document in refusals.py and nowhere else, and nothing was changed. body.py and query.py say what may be sent,
context.py what surrounds every request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keywright.domain.names import ACCOUNT_NAME
from keywright.domain.problems import Problem, TooManyRequests, Unauthorized
from keywright.domain.text import is_whole
from keywright.origin.accounts import store as account_rows
from keywright.origin.audit import rules as audit
from keywright.origin.auth import bearer as auth
from keywright.origin.auth.actors import NOBODY, Actor
from keywright.origin.auth.end_users import EndUsers
from keywright.origin.auth.sessions import Team
from keywright.origin.db import commit_log
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.edges.rules import Edges
from keywright.origin.mail import Mailer
from keywright.origin.pipeline import respond as refusals
from keywright.origin.pipeline.acknowledge import Wait, acknowledge, ask_to_wait, find_wait
from keywright.origin.pipeline.body import MAX_BODY_BYTES, admit_body
from keywright.origin.pipeline.context import RequestContext, request_source_of
from keywright.origin.pipeline.query import (
    MAX_LIMIT,
    MAX_OFFSET,
    MAX_TAGS,
    WantedTags,
    check_query,
    page_of,
    wants_representation,
)
from keywright.origin.pipeline.rate_limit import RateLimiter
from keywright.origin.pipeline.respond import NotAppliedHere
from keywright.origin.pipeline.unit_of_work import AuditDraft, Dependencies, UnitOfWork

__all__ = [
    "MAX_BODY_BYTES", "MAX_LIMIT", "MAX_OFFSET", "MAX_TAGS", "UNLOGGED", "Bell", "CurrentEdges", "CurrentUnitOfWork",
    "DatabaseUnavailable", "NotAppliedHere", "OriginRoute", "RateLimiter", "RequestContext", "Services", "Transaction",
    "Wait", "WantedTags", "ask_to_wait", "install", "limit_rate", "log_refusal", "page_of", "wants_representation",
]  # fmt: skip

READING = frozenset({"GET", "HEAD", "OPTIONS"})

UNLOGGED = (TooManyRequests, NotAppliedHere, DatabaseUnavailable)
"""What no audit entry is written for: a flood, what was done after all, what could not be written now either."""

Bell = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the composition root hands to every request. `bell` is told the newest revision after each commit."""

    database: Database
    dependencies: Dependencies
    bell: Bell
    management_rate: RateLimiter
    refusal_rate: RateLimiter
    """How many refused attempts of strangers are written to an account's audit log in a second."""
    edges: Edges
    end_users: EndUsers | None = None
    """The identity provider of the end users; None where the deployment has none."""
    team: Team | None = None
    """The provider's own people; None where they come in with management keys alone."""
    end_user_rate: RateLimiter = field(default_factory=lambda: RateLimiter(0))
    cors_origins: tuple[str, ...] = ()
    """Which web pages may call the Self-serve API."""
    mailer: Mailer | None = None
    public_url: str = ""
    """Where browsers reach this service; links in mails lead there, whatever host a request names."""


class OriginRoute(APIRoute):
    """A route of the Developer API. Its name is the action that stands in the audit log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = super().get_route_handler()
        has_body = self.body_field is not None
        parameters = _query_parameters(self.dependant)

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            audit_draft = AuditDraft(self.name)
            actor = NOBODY
            try:
                actor = await self.admit(request, services)
                check_query(request, parameters)
                if has_body:
                    await admit_body(request)
                return await self._work(request, services, actor, audit_draft, endpoint)
            except ClientDisconnect:
                # Nothing was done, and nobody is there to be told.
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001
                problem = refusals.to_problem(error, request)
                if request.method not in READING and not isinstance(error, UNLOGGED):
                    await log_refusal(request, services, actor, audit_draft, problem)
                return refusals.render(problem, request)

        return handle

    async def admit(self, request: Request, services: Services) -> Actor:
        """Who asks, before anything of the request is looked at. Raises what they are to be told if they may not."""
        secret = auth.parse_management_key(authorization_of(request))
        async with services.database.read() as tx:
            actor = await _authenticate(tx, secret, services)
        limit_rate(actor, services)
        return actor

    async def readmit(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        """Who asks, in the transaction that changes something."""
        # Once more, and held: the key may have been revoked while the body came in or the lock was waited for.
        secret = auth.parse_management_key(authorization_of(request))
        return await _authenticate(tx, secret, services, is_held=True)

    async def _work(
        self,
        request: Request,
        services: Services,
        actor: Actor,
        audit_draft: AuditDraft,
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]],
    ) -> Response:
        is_write = request.method not in READING
        transaction: AbstractAsyncContextManager[Transaction]
        transaction = services.database.write() if is_write else services.database.read()
        async with transaction as tx:
            if is_write:
                actor = await self.readmit(tx, request, services, actor)
            now = services.dependencies.clock()
            request.state.work = UnitOfWork(tx, actor, now, services.dependencies, audit_draft)
            response = await endpoint(request)
            if response.status_code == 204:
                # There is no content to have a type, and front ends that see one try to parse it.
                del response.headers["content-type"]
            head = 0
            if is_write:
                await audit.write(tx, actor=actor, audit_draft=audit_draft, source=request_source_of(request), now=now)
                tx.is_awaited = find_wait(request) is not None
                if not (tx.has_changes or tx.is_awaited):
                    # Nothing for an edge to hear of; all that it could is in here.
                    head = await commit_log.get_revision(tx)
        if tx.revision is not None:
            await services.bell(tx.revision)
        if is_write:
            revision = head if tx.revision is None else tx.revision
            await acknowledge(response, services.edges, revision, find_wait(request), actor, audit_draft.account_id)
        return response


async def current_unit_of_work(request: Request) -> UnitOfWork:
    """The unit of work of this request."""
    work: UnitOfWork = request.state.work
    return work


async def current_edges(request: Request) -> Edges:
    services: Services = request.app.state.services
    return services.edges


CurrentUnitOfWork = Annotated[UnitOfWork, Depends(current_unit_of_work)]
CurrentEdges = Annotated[Edges, Depends(current_edges)]


def install(app: FastAPI) -> None:
    """Makes an application render every failure as a problem document and give every request its context."""

    async def on_problem(request: Request, error: Exception) -> Response:
        return refusals.render(refusals.to_problem(error, request), request)

    for kind in (Problem, RequestValidationError):
        app.add_exception_handler(kind, on_problem)
    app.add_exception_handler(HTTPException, refusals.on_http_exception)
    app.add_middleware(RequestContext, on_failure=on_problem)


def _query_parameters(dependant: Dependant) -> frozenset[str]:
    own = frozenset(parameter.alias for parameter in dependant.query_params)
    return own.union(*(_query_parameters(one) for one in dependant.dependencies))


def authorization_of(request: Request) -> str | None:
    """The one Authorization header, if there is one. Raises Unauthorized for several."""
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        challenge = f'{auth.CHALLENGE}, error="invalid_request"'
        raise Unauthorized("Send one Authorization header, not several.", headers={"WWW-Authenticate": challenge})
    return headers[0] if headers else None


async def _authenticate(tx: Transaction, secret: str, services: Services, *, is_held: bool = False) -> Actor:
    dependencies = services.dependencies
    return await auth.authenticate(tx, secret, dependencies.digester, dependencies.clock(), is_held=is_held)


def limit_rate(actor: Actor, services: Services) -> None:
    """Raises TooManyRequests when the account of the actor asks for too much at once."""
    # An end user has no account: one user's haste is not another's.
    wait = services.management_rate.take(actor.grantee.account_id or actor.sub, time.monotonic())
    if wait > 0:
        raise TooManyRequests(
            f"At most {services.management_rate.rate:g} management requests a second are answered for an account.",
            headers={"Retry-After": str(math.ceil(wait))},
        )


async def log_refusal(
    request: Request,
    services: Services,
    actor: Actor,
    audit_draft: AuditDraft,
    problem: Problem,
    *,
    source: str = "api",
) -> None:
    """Writes a refused attempt to the audit log of the account that it was aimed at."""
    try:
        if audit_draft.account_id is None:
            # Looked for before anything is written or counted: strangers may name any number of accounts.
            audit_draft.account_id = await _find_account_id(request, services) or actor.grantee.account_id or None
        if audit_draft.account_id is None:
            return
        is_stranger = not actor.grantee.is_root and actor.grantee.account_id != audit_draft.account_id
        if is_stranger and services.refusal_rate.take(audit_draft.account_id, time.monotonic()) > 0:
            return
        async with services.database.write() as tx:
            now = services.dependencies.clock()
            error = refusals.in_one_line(problem)
            origin = request_source_of(request, source)
            await audit.write(tx, actor=actor, audit_draft=audit_draft, source=origin, now=now, error=error)
    except DatabaseUnavailable as error:
        refusals.log.warning("a refused attempt could not be logged: %s (request %s)", error, request.state.request_id)


async def _find_account_id(request: Request, services: Services) -> str | None:
    name = request.path_params.get("accountName", "")
    if not is_whole(ACCOUNT_NAME, name):
        return None
    async with services.database.read() as tx:
        account = await account_rows.find_account(tx, name)
    return account.id if account else None
