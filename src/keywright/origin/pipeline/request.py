"""Owns the way of a request to the origin's API: `handle` reads downward, a step after the other.

Around it stand context.py (request id, address, the headers of every answer) and cors.py. What a step does is in the
module of its name; here is only their order. An endpoint receives the unit of work of an open transaction; when it
returns, the transaction commits, the revision is published, and only then the answer goes out. Whatever a step raises
becomes a problem document in respond.py, and nothing was changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, serialize_response
from starlette.requests import ClientDisconnect

from keywright.domain.names import ACCOUNT_NAME
from keywright.domain.problems import InsufficientStorage, Problem, TooManyRequests
from keywright.domain.text import is_whole
from keywright.origin.accounts import store as account_rows
from keywright.origin.audit import rules as audit
from keywright.origin.auth.actors import NOBODY, Actor
from keywright.origin.db import commit_log
from keywright.origin.db.disk_space import make_room, takes_away
from keywright.origin.db.engine import DatabaseUnavailable, DiskFailed, DiskFull
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.reach import Touched
from keywright.origin.edges.registry import Edges
from keywright.origin.openapi.bodies import unknown_members
from keywright.origin.pipeline import respond
from keywright.origin.pipeline.authenticate import Caller, ManagementKeyCaller
from keywright.origin.pipeline.body import NO_BODY, Admission, admission_of, read_body
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.publish import NotAppliedHere, Wait, acknowledge, find_wait, publish
from keywright.origin.pipeline.query import check_query
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork

READING = frozenset({"GET", "HEAD", "OPTIONS"})

UNLOGGED = (TooManyRequests, NotAppliedHere, DatabaseUnavailable, InsufficientStorage)
"""What no audit entry is written for: a flood, what was done after all, what could not be written now either."""


class OriginRoute(APIRoute):
    """A route of the Developer API. Its name is the action that stands in the audit log."""

    caller: ClassVar[Caller] = ManagementKeyCaller()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        self.query_names = _query_names(self.dependant)
        # What is heard of edges is the event loop's own.
        self.is_in_loop = _asks_for(self.dependant, _current_edges)
        self.admission = None if self.body_field is None else admission_of(self.endpoint)

        async def answer(request: Request) -> Response:
            return await handle(request, self)

        return answer


class Written(NamedTuple):
    """What was committed. `known` is a revision that has all of it, also where it made none of its own."""

    response: Response
    actor: Actor
    revision: int | None
    known: int
    wait: Wait | None
    touched: Touched


async def handle(request: Request, route: OriginRoute) -> Response:
    """The answer to a request, which has its context: the steps that every request takes, in order."""
    services: Services = request.app.state.services
    audit_draft = AuditDraft(route.name)
    actor = NOBODY
    try:
        admission = route.admission
        entrance = None if admission is None else route.caller.entrance(request, services, admission)
        known = None if entrance is None else services.let_in.find(entrance, services.dependencies.clock())
        if known is None:
            actor = await route.caller.authenticate(request, services)
        else:
            actor, audit_draft.account_id = known.actor, known.account_id
        meter = route.caller.meter(actor, services)
        meter.check()
        await route.caller.accept_invites(request, services, actor)
        check_query(request, route.query_names)
        if request.method not in READING:
            make_room(services.disk, route.name)
        body = NO_BODY
        if admission is not None:
            if known is None:
                await _admit(request, admission, services, actor, audit_draft)
            if known is None and entrance is not None:
                services.let_in.note(entrance, actor, audit_draft.account_id, services.dependencies.clock())
            body = await read_body(request, route.name, services.dependencies.limits, meter)
        take = _read if request.method in READING else _write
        try:
            return await take(request, route, services, actor, audit_draft, body)
        except (DiskFull, DiskFailed):
            # Somebody else may have filled the disk since it was looked at.
            if not (takes_away(route.name) and services.disk is not None and services.disk.give_up()):
                raise
            audit_draft.resources.clear()
            return await take(request, route, services, actor, audit_draft, body)
    except ClientDisconnect:
        # Nothing was done, and nobody is there to be told.
        return Response(status_code=400)
    except Exception as error:  # noqa: BLE001
        problem = respond.to_problem(error, request)
        if request.method not in READING and not isinstance(error, UNLOGGED):
            await log_refusal(request, services, actor, audit_draft, problem)
        return respond.render(problem, request)


async def _admit(
    request: Request, admission: Admission, services: Services, actor: Actor, audit_draft: AuditDraft
) -> None:
    """Rights come before the body: who has none costs no more than the question."""

    async def admit(tx: Transaction) -> None:
        work = UnitOfWork(tx, actor, services.dependencies.clock(), services.dependencies, audit_draft)
        await admission(work, request.path_params)

    await services.database.run_read(admit)


async def _read(
    request: Request, route: OriginRoute, services: Services, actor: Actor, audit_draft: AuditDraft, body: Any
) -> Response:
    """The rest of a request that changes nothing."""

    async def answer(tx: Transaction) -> Response:
        work = UnitOfWork(tx, actor, services.dependencies.clock(), services.dependencies, audit_draft)
        return await _call_endpoint(request, route, work, body)

    return await services.database.run_read(answer, is_in_loop=route.is_in_loop)


async def _write(
    request: Request, route: OriginRoute, services: Services, actor: Actor, audit_draft: AuditDraft, body: Any
) -> Response:
    """The rest of a request that may change something."""

    async def write(tx: Transaction) -> Written:
        again = await route.caller.reauthenticate(tx, request, services, actor)
        work = UnitOfWork(tx, again, services.dependencies.clock(), services.dependencies, audit_draft)
        response = await _call_endpoint(request, route, work, body)
        source = request_source_of(request)
        await audit.write(tx, actor=again, audit_draft=audit_draft, source=source, now=work.now)
        wait = find_wait(request)
        tx.is_awaited = wait is not None
        # Where there is nothing for an edge to hear of: all that it could is in here.
        head = 0 if tx.has_news else await commit_log.get_revision(tx)
        revision = await tx.commit()
        return Written(response, again, revision, revision or head, wait, Touched.by(tx, audit_draft.account_id))

    written = await services.database.run_write(write, is_in_loop=route.is_in_loop)
    services.let_in.forget_after(route.name)
    if written.revision is not None:
        await publish(services, written.revision)
    await acknowledge(written.response, services.edges, written.known, written.wait, written.actor, written.touched)
    return written.response


async def _call_endpoint(request: Request, route: OriginRoute, work: UnitOfWork, body: Any) -> Response:
    """Calls the endpoint with what its signature asks for. Raises RequestValidationError for what does not fit it."""
    request.state.work = work
    solved = await solve_dependencies(
        request=request,
        dependant=route.dependant,
        body=body,
        async_exit_stack=request.scope["fastapi_inner_astack"],
        embed_body_fields=False,
    )
    errors = [*solved.errors]
    if route.body_field is not None and not work.dependencies.limits.ignores_unknown_members:
        errors += islice(unknown_members(route.body_field.field_info.annotation, body), respond.MAX_ERRORS)
    if errors:
        raise RequestValidationError(errors)
    returned = await route.endpoint(**solved.values)
    if isinstance(returned, Response):
        return returned
    if route.status_code == 204:
        return Response(status_code=204)
    # What the endpoint has set of the response that it was given.
    headers = dict(solved.response.headers)
    content = await serialize_response(
        field=route.response_field,
        response_content=returned,
        exclude_unset=route.response_model_exclude_unset,
        dump_json=True,
    )
    return Response(content, media_type="application/json", headers=headers)


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
    if services.disk is not None and services.disk.is_low:
        # The room that is left is for what takes rights away, not for whoever is refused.
        return
    try:
        if audit_draft.account_id is None:
            # Looked for before anything is written or counted: strangers may name any number of accounts.
            audit_draft.account_id = await _find_account_id(request, services) or actor.grantee.account_id or None
        if audit_draft.account_id is None:
            return
        is_stranger = not actor.grantee.is_root and actor.grantee.account_id != audit_draft.account_id
        if is_stranger and services.refusal_rate.take(audit_draft.account_id, time.monotonic()) > 0:
            return

        async def log(tx: Transaction) -> None:
            source_seen, error = await audit.without_known_keys(
                tx,
                services.dependencies.digester,
                audit_draft.account_id or "",
                request_source_of(request, source),
                respond.in_one_line(problem),
            )
            now = services.dependencies.clock()
            await audit.write(tx, actor=actor, audit_draft=audit_draft, source=source_seen, now=now, error=error)

        await services.database.run_write(log)
    except DatabaseUnavailable as error:
        respond.log.warning("a refused attempt could not be logged: %s (request %s)", error, request.state.request_id)


async def _find_account_id(request: Request, services: Services) -> str | None:
    name = request.path_params.get("accountName", "")
    if not is_whole(ACCOUNT_NAME, name):
        return None
    async with services.database.read() as tx:
        account = await account_rows.find_account(tx, name)
    return account.id if account else None


def _query_names(dependant: Dependant) -> frozenset[str]:
    own = frozenset(parameter.alias for parameter in dependant.query_params)
    return own.union(*(_query_names(one) for one in dependant.dependencies))


def _asks_for(dependant: Dependant, call: Callable[..., Any]) -> bool:
    return any(one.call is call or _asks_for(one, call) for one in dependant.dependencies)


async def _current_unit_of_work(request: Request) -> UnitOfWork:
    work: UnitOfWork = request.state.work
    return work


async def _current_edges(request: Request) -> Edges:
    services: Services = request.app.state.services
    return services.edges


CurrentUnitOfWork = Annotated[UnitOfWork, Depends(_current_unit_of_work)]
"""The unit of work of this request, for an endpoint's signature."""
CurrentEdges = Annotated[Edges, Depends(_current_edges)]
