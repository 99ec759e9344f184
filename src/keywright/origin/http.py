"""Owns what each request to the origin gets: an id, an actor, a rate, a checked body, one transaction, an audit entry.

A route of the Developer API is an `OriginRoute`. Its endpoint receives the `Work` of an open transaction; when it
returns, the transaction commits, the bell rings and only then the answer goes out. Whatever it raises becomes a
problem document here and nowhere else, and nothing was changed.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keywright.core.problems import (
    BY_STATUS,
    CONTENT_TYPE,
    BadRequest,
    InternalServerError,
    PayloadTooLarge,
    Problem,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)
from keywright.origin import auth
from keywright.origin.service import audit
from keywright.origin.service.actor import NOBODY, Actor, Attempt, Origin, Page, Tools, Work
from keywright.origin.store import accounts as account_rows
from keywright.origin.store.database import Database, DatabaseUnavailable, Transaction

log = logging.getLogger("keywright.origin")

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_LIMIT = 1000
MAX_OFFSET = 2**53 - 1
READING = frozenset({"GET", "HEAD", "OPTIONS"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)

Bell = Callable[[int], Awaitable[None]]


class NotAppliedHere(Exception):
    """Raised by a bell when a committed change could not be brought to this machine's replica."""


@dataclass(slots=True)
class RateLimiter:
    """A token bucket for each name: `rate` a second, and as many at once. 0 lets everything pass.

    Counted in this process: with several workers, each of them has its own.
    """

    rate: float
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)
    _most: int = 10_000

    def take(self, name: str, now: float) -> float:
        """Seconds until the next request may come; 0 if this one may pass. `now` is a monotonic time in seconds."""
        if self.rate <= 0:
            return 0.0
        if len(self._levels) > self._most:
            # Names may be a stranger's invention: those that have been full again for long are forgotten.
            self._levels = {one: held for one, held in self._levels.items() if now - held[1] < 1}
        level, then = self._levels.get(name, (self.rate, now))
        level = min(self.rate, level + (now - then) * self.rate)
        if level < 1:
            self._levels[name] = (level, now)
            return (1 - level) / self.rate
        self._levels[name] = (level - 1, now)
        return 0.0


@dataclass(frozen=True, slots=True)
class Services:
    """What the composition root hands to every request. `bell` is told the newest revision after each commit."""

    database: Database
    tools: Tools
    bell: Bell
    management_rate: RateLimiter
    refusal_rate: RateLimiter
    """How many refused attempts of strangers are written to an account's audit log in a second."""


class OriginRoute(APIRoute):
    """A route of the Developer API. Its name is the action that stands in the audit log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = super().get_route_handler()
        has_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            attempt = Attempt(self.name)
            actor = NOBODY
            try:
                async with services.database.read() as tx:
                    actor = await _authenticate(tx, request, services)
                _limit_rate(actor, services)
                if has_body:
                    await _admit_body(request)
                return await _work(request, services, actor, attempt, endpoint)
            except Exception as error:  # noqa: BLE001
                problem = to_problem(error, request)
                if request.method not in READING and not isinstance(problem, TooManyRequests):
                    await _log_refusal(request, services, actor, attempt, problem)
                return render(problem, request)

        return handle


async def _work(
    request: Request,
    services: Services,
    actor: Actor,
    attempt: Attempt,
    endpoint: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Response:
    is_write = request.method not in READING
    transaction: AbstractAsyncContextManager[Transaction]
    transaction = services.database.write() if is_write else services.database.read()
    async with transaction as tx:
        now = services.tools.clock()
        request.state.work = Work(tx, actor, now, services.tools, attempt)
        response = await endpoint(request)
        if is_write:
            await audit.write(tx, actor=actor, attempt=attempt, origin=_origin(request), now=now)
    if tx.revision is not None:
        await services.bell(tx.revision)
    return response


def current_work(request: Request) -> Work:
    """The unit of work of this request."""
    work: Work = request.state.work
    return work


CurrentWork = Annotated[Work, Depends(current_work)]


def page_of(limit: int, offset: int) -> Page:
    """The part of a list that was asked for; a larger limit is cut."""
    return Page(min(limit, MAX_LIMIT), offset)


def tags_of(request: Request) -> Mapping[str, str]:
    """The tags that `tag.<name>=<value>` query parameters ask for. Raises BadRequest."""
    tags: dict[str, str] = {}
    for parameter, value in request.query_params.multi_items():
        if not parameter.startswith("tag."):
            continue
        name = parameter.removeprefix("tag.")
        message = None
        if not name or _NOT_TEXT.search(name) or _NOT_TEXT.search(value):
            message = "must be tag.<name>=<value>, both of them text"
        elif tags.setdefault(name, value) != value:
            message = "is given twice with different values"
        if message:
            raise _invalid([{"field": f"query.{quote(parameter)}", "message": message}])
    return tags


WantedTags = Annotated[Mapping[str, str], Depends(tags_of)]


def wants_representation(request: Request) -> bool:
    """Whether the caller prefers the made thing to an empty answer (RFC 7240 section 4.2)."""
    preferences = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(part.split(";")[0].replace(" ", "") == "return=representation" for part in preferences)


async def _authenticate(tx: Transaction, request: Request, services: Services) -> Actor:
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise Unauthorized("Send one Authorization header, not several.")
    return await auth.authenticate(tx, headers[0] if headers else None, services.tools.digester, services.tools.clock())


def _limit_rate(actor: Actor, services: Services) -> None:
    wait = services.management_rate.take(actor.grantee.account_id, time.monotonic())
    if wait > 0:
        raise TooManyRequests(
            f"At most {services.management_rate.rate:g} management requests a second are answered for an account.",
            headers={"Retry-After": str(math.ceil(wait))},
        )


async def _admit_body(request: Request) -> None:
    """Reads the body, no more than is allowed, and leaves it parsed where the framework looks for it."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    request._body = bytes(body)
    if not body:
        return
    content_type = request.headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json.")
    request._json = parse_json(request._body)


def parse_json(body: bytes) -> Any:
    """JSON (RFC 8259) that can be kept: UTF-8, finite numbers, no NUL, no lone surrogates. Raises BadRequest."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _invalid([{"field": "body", "message": "is not UTF-8"}]) from None
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise _invalid([{"field": "body", "message": message}]) from None
    except (ValueError, RecursionError):
        message = "is not JSON that can be kept: a number is too large, or it is nested too deeply"
        raise _invalid([{"field": "body", "message": message}]) from None
    waiting: list[tuple[str, Any, int]] = [("body", value, 0)]
    while waiting:
        place, item, depth = waiting.pop()
        complaint = _complaint(item, depth)
        if complaint:
            raise _invalid([{"field": _shown(place), "message": complaint}])
        if isinstance(item, dict):
            waiting += [(f"{place}.{key}", key, depth + 1) for key in item]
            waiting += [(f"{place}.{key}", child, depth + 1) for key, child in item.items()]
        elif isinstance(item, list):
            waiting += [(f"{place}.{index}", child, depth + 1) for index, child in enumerate(item)]
    return value


def _complaint(item: Any, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} deep"
    if isinstance(item, str) and _NOT_TEXT.search(item):
        return "holds a NUL character or a lone surrogate"
    if isinstance(item, float) and not math.isfinite(item):
        return "is a number too large to be kept"
    return None


def _shown(place: str) -> str:
    """A field's path that can be answered: a strange name is escaped, a long one cut."""
    return _NOT_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", place)[:200]


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")


def _invalid(errors: list[dict[str, str]]) -> BadRequest:
    return BadRequest("The request is not valid.", errors=errors)


def to_problem(error: Exception, request: Request) -> Problem:
    """The problem that an exception is to the caller. What is no caller's mistake is logged here, once, as a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid([_field_error(one) for one in error.errors()])
    if isinstance(error, DatabaseUnavailable):
        log.warning("database unavailable: %s (request %s)", error, request.state.request_id)
        return ServiceUnavailable("The database can't be reached; nothing was changed.", headers={"Retry-After": "1"})
    if isinstance(error, NotAppliedHere):
        detail = "The change is kept, but this machine's replica could not apply it yet."
        return ServiceUnavailable(detail, headers={"Retry-After": "1"})
    log.error("request %s failed", request.state.request_id, exc_info=error)
    return InternalServerError()


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    place = [str(part) for part in error["loc"]]
    message = str(error["msg"]).removeprefix("Value error, ")
    return {"field": _shown(".".join(place)), "message": message[:1].lower() + message[1:]}


def render(problem: Problem, request: Request) -> Response:
    document = problem.to_document(instance=_path(request.scope), request_id=request.state.request_id)
    return JSONResponse(document, problem.status, headers=problem.headers, media_type=CONTENT_TYPE)


async def _log_refusal(request: Request, services: Services, actor: Actor, attempt: Attempt, problem: Problem) -> None:
    """Writes a refused attempt to the audit log of the account that it was aimed at."""
    name = request.path_params.get("accountName", "")
    if actor is NOBODY and services.refusal_rate.take(name[:128], time.monotonic()) > 0:
        return
    try:
        async with services.database.write() as tx:
            if attempt.account_id is None and not _NOT_TEXT.search(name):
                account = await account_rows.find_account(tx, name)
                attempt.account_id = account.id if account else None
            now = services.tools.clock()
            error = problem.detail or problem.title
            await audit.write(tx, actor=actor, attempt=attempt, origin=_origin(request), now=now, error=error)
    except DatabaseUnavailable as error:
        log.warning("a refused attempt could not be logged: %s (request %s)", error, request.state.request_id)


def _origin(request: Request) -> Origin:
    user_agent = request.headers.get("user-agent")
    return Origin(
        request_id=request.state.request_id,
        address=request.client.host if request.client else None,
        user_agent=user_agent[:512] if user_agent is not None else None,
        method=request.method,
        url=_path(request.scope),
    )


def _path(scope: Scope) -> str:
    # As it was sent: percent-encoded, so that no byte of it can surprise a log or a page.
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")[:2048]


class RequestContext:
    """Pure ASGI, around everything: the request id, no trailing slash, and the headers that every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # Collections answer with and without it, never by a redirect.
            path = path[:-1]
        scope = {**scope, "path": path, "state": {**scope.get("state", {}), "request_id": request_id}}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    # Answers hold secrets and what is true only now.
                    extra.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


def install(app: FastAPI) -> None:
    """Makes an application render every failure as a problem document and give every request its context."""

    async def on_problem(request: Request, error: Exception) -> Response:
        return render(to_problem(error, request), request)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return render(to_problem(error, request), request)
        kind = BY_STATUS.get(error.status_code, BadRequest)
        details = {404: "There is nothing at this address.", 405: "This address does not answer that method."}
        return render(kind(details.get(error.status_code), headers=error.headers), request)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_problem)
    app.add_exception_handler(Exception, on_problem)
    app.add_middleware(RequestContext)
