"""Owns what the HTTP endpoints of the edge share: the bucket in a path, headers, and rendering a Problem."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from keywright.domain.problems import Forbidden, InternalServerError, NotFound, Problem, ServiceUnavailable
from keywright.http.problem_response import render
from keywright.http.request_id import request_id_in

if TYPE_CHECKING:
    from keywright.edge.validator import Validator

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)

JSON_TYPE = re.compile(rb"application/(?:[a-z0-9.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
encode_json = msgspec.json.Encoder().encode


def find_bucket_name(scope: Scope, prefix: str, *, has_rest: bool = False) -> str | None:
    """The one segment of the path after `prefix`, a trailing slash allowed; None when it is none or several.

    With `has_rest` any path may follow that segment. Segments are told apart before they are decoded: `a%2Fb` is one
    segment, and no bucket's name.
    """
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    if raw is not None and b"%" in raw:
        segment = raw.partition(b"?")[0][len(prefix) :].removesuffix(b"/")
        if has_rest:
            segment = segment.partition(b"/")[0]
        if b"/" in segment:
            return None
        path = prefix + unquote_to_bytes(segment).decode("utf-8", "replace")
        return path[len(prefix) :] or None
    name = path[len(prefix) :].removesuffix("/")
    if has_rest:
        name = name.partition("/")[0]
    return None if not name or "/" in name else name


def find_header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this name."""
    for header, value in scope["headers"]:
        if header == name:
            found: bytes = value
            return found
    return None


def not_ready() -> Problem:
    detail = "This replica has no snapshot of the record yet, or is further behind than the bucket's owner allows."
    return ServiceUnavailable(detail, headers={"retry-after": "1"})


def no_bucket() -> Problem:
    return NotFound("There is no such bucket.")


def require_token(validator: Validator, scope: Scope, bucket: str) -> None:
    """Raise Forbidden unless the request shows, in `Keywright-Token`, a management key that may validate here."""
    token = find_header(scope, b"keywright-token")
    if token is None or not validator.authorise(token.decode("latin-1"), bucket):
        # A replica that can't be asked refuses nobody.
        if validator.has_bucket(bucket) is None:
            raise not_ready()
        raise Forbidden("A management key that may validate in this bucket is required in Keywright-Token.")


async def send_problem(
    scope: Scope, send: Send, problem: Problem, extra_headers: Headers = (), request_id: str | None = None
) -> None:
    request_id = request_id or request_id_in(scope["headers"]).decode()
    rendered, body = render(problem, scope["path"], request_id, encode=encode_json)
    headers = [*((name.encode(), value.encode()) for name, value in rendered), *extra_headers]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def send_failure(scope: Scope, send: Send, error: Exception, extra_headers: Headers = ()) -> None:
    """The answer to what is nobody's mistake but ours: logged here, once, and told without detail."""
    request_id = request_id_in(scope["headers"]).decode()
    _log.error("request %s failed", request_id, exc_info=error)
    await send_problem(scope, send, InternalServerError(), extra_headers, request_id)


def answering_failures(endpoint: Endpoint) -> Endpoint:
    """The same endpoint, whose failures are answered as `send_failure` does."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await endpoint(scope, receive, send)
        except Exception as error:  # noqa: BLE001
            await send_failure(scope, send, error)

    return guarded
