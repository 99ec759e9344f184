"""Owns how a failure is told: every exception becomes a problem document here, in words that name field and rule.

No message repeats a value that was sent: it could be a secret.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from keywright.domain.keyformat import mask
from keywright.domain.problems import (
    BY_STATUS,
    BadRequest,
    InternalServerError,
    Problem,
    ServiceUnavailable,
)
from keywright.http import problem_response
from keywright.http.client_address import ClientAddresses
from keywright.origin.db.disk_space import RECORD, too_full
from keywright.origin.db.engine import DatabaseUnavailable, DiskFailed, DiskFull
from keywright.origin.pipeline.context import RequestContext, path_of
from keywright.origin.pipeline.publish import NotAppliedHere
from keywright.origin.pipeline.request_counts import RequestCounts
from keywright.runtime.disk import is_full

if TYPE_CHECKING:
    from keywright.origin.pipeline.services import Services

log = logging.getLogger("keywright.origin")

MAX_ERRORS = 50
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DETAILS = {404: "There is nothing at this address.", 405: "This address does not answer that method."}

_RULES = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "list_type": "must be a list",
    "enum": "must be one of {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
    "unknown_member": "{error}",
}
"""What is said of each kind of error that Pydantic finds in our shapes."""
# Clients that send as null what they don't set would empty what is there.
_INSTEAD_OF_NULL = {
    "missing": "",
    "dict_type": ", not null: leave it out to keep it, {} empties it",
    "list_type": ", not null: leave it out to keep it, [] empties it",
}


def install(app: FastAPI, client_addresses: ClientAddresses, counts: RequestCounts) -> None:
    """Makes an application render every failure as a problem document, give every request its context and count it."""

    async def on_problem(request: Request, error: Exception) -> Response:
        return render(to_problem(error, request), request)

    for kind in (Problem, RequestValidationError):
        app.add_exception_handler(kind, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(RequestContext, on_failure=on_problem, client_addresses=client_addresses, counts=counts)


def invalid(errors: Iterable[Mapping[str, str]]) -> BadRequest:
    """The refusal of fields that break a rule; the first of them, where there are very many."""
    shown = [{"field": _shown(one["field"]), "message": one["message"]} for one in islice(errors, MAX_ERRORS)]
    return BadRequest("The request is not valid.", errors=shown)


def to_problem(error: Exception, request: Request) -> Problem:
    """The problem that an exception is to the caller. What is no caller's mistake is logged here, once, as a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(_field_error(one) for one in error.errors())
    if isinstance(error, DatabaseUnavailable) and _is_disk_full(error, request):
        log.error("the disk of the database is full: %s (request %s)", error, request.state.request_id)
        return too_full()
    if isinstance(error, DatabaseUnavailable):
        log.warning("database unavailable: %s (request %s)", error, request.state.request_id)
        return ServiceUnavailable("The database can't be reached; nothing was changed.", headers={"Retry-After": "1"})
    if isinstance(error, NotAppliedHere):
        detail = "The change is kept, but this machine's replica could not apply it yet."
        if isinstance(error.__cause__, OSError) and is_full(error.__cause__):
            detail = "The change is kept, but this machine's replica could not apply it: its disk is full."
        return ServiceUnavailable(detail, headers={"Retry-After": "1"})
    log.error("request %s failed", request.state.request_id, exc_info=error)
    return InternalServerError()


def _is_disk_full(error: DatabaseUnavailable, request: Request) -> bool:
    """Whether there is no room, which then is counted."""
    services: Services | None = getattr(request.app.state, "services", None)
    disk = services.disk if services is not None else None
    is_full = isinstance(error, DiskFull) or (isinstance(error, DiskFailed) and disk is not None and disk.is_low)
    if is_full and disk is not None:
        disk.refused[RECORD] += 1
    return is_full


UNKNOWN_MEMBER = "is not known here"
"""How the message of a member begins whose name is not ours."""


def in_one_line(problem: Problem) -> str:
    """The refusal for the audit log: the detail, and the first of the fields."""
    text = problem.detail or problem.title
    if problem.errors:
        text = f"{text} " + "; ".join(f"{_field_to_keep(one)} {one['message']}" for one in problem.errors[:5])
    return text[:500]


def _field_to_keep(error: Mapping[str, str]) -> str:
    """The field, but for a name that isn't ours: it is the caller's own text, and may be a secret in a wrong place."""
    field = error["field"]
    return f"{field.rpartition('.')[0]}.{mask('')}" if error["message"].startswith(UNKNOWN_MEMBER) else field


def render(problem: Problem, request: Request) -> Response:
    if problem.detail is None:
        problem.detail = _DETAILS.get(problem.status)
    headers, body = problem_response.render(problem, path_of(request.scope), request.state.request_id)
    return Response(body, problem.status, headers=dict(headers))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an address that is not there, a method that it does not answer."""
    if not isinstance(error, HTTPException):
        return render(to_problem(error, request), request)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_methods_of(request.app.router.routes, request.scope))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    kind = BY_STATUS.get(error.status_code, BadRequest)
    return render(kind(headers=headers), request)


def _methods_of(routes: Iterable[Any], scope: Scope) -> list[str]:
    """Every method that an address answers (RFC 9110 section 10.2.1); a route by itself knows its own only."""
    found = []
    for method in METHODS:
        asked = {"type": "http", "path": scope["path"], "root_path": "", "method": method, "headers": []}
        if any(route.matches(asked)[0] is Match.FULL for route in routes):
            found += [method, "HEAD"] if method == "GET" else [method]
    return [*found, "OPTIONS"]


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    place = [str(part)[:200] for part in error["loc"]]
    about_name = place[-1] == "[key]"
    if about_name:
        place.pop()
    values = {name: _listed(value) if name == "expected" else value for name, value in error.get("ctx", {}).items()}
    rule = _RULES.get(error["type"])
    message = rule.format_map(values) if rule else "is not valid"
    if error.get("input", "") is None and len(place) > 1:
        message += _INSTEAD_OF_NULL.get(error["type"], "; leave it out instead of sending null")
    return {"field": ".".join(place), "message": f"as a name {message}" if about_name else message}


def _listed(expected: str) -> str:
    return expected.replace("'", "").replace(" or ", ", ")


def _shown(place: str) -> str:
    """A field's path that can be answered: a strange name is escaped, a long one cut."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", place[:200])
