"""Owns the policy as ASGI middleware: Starlette, FastAPI, Litestar, Django, and whatever else is ASGI.

    app = ApiKeyPolicy(app, source, bucket_name="my-bucket")
    orders = RequireScopes(orders, scopes=["orders:read"])      a part of it, inside of the policy

Whom a request comes from is in `scope["user"]` and `scope["auth"]`, which Starlette, FastAPI and Litestar show as
`request.user` and `request.auth`, and in `scope["state"]["user"]`. Bodies are not touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_in
from keywright.policy.rules.charges import CHARGE, NO_CHARGE, Charge
from keywright.policy.rules.demands import checked
from keywright.policy.rules.gate import FORGEABLE_HEADERS, GATE, Gate, MustWait, Options, Refused, Request, limit_fields
from keywright.policy.rules.identity import User

if TYPE_CHECKING:
    from keywright.domain.networks import Address
    from keywright.domain.problems import Problem
    from keywright.policy.rules.clients import AppClients
    from keywright.policy.rules.sources import Source, SourceFactory

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION = 1008
"""RFC 6455 section 7.4.1. Before the handshake has been answered, servers make a 403 of it."""


def _spellings(name: bytes) -> Iterator[bytes]:
    """With a hyphen or an underscore at each place."""
    first, *parts = name.split(b"-")
    for joints in itertools.product((b"-", b"_"), repeat=len(parts)):
        yield first + b"".join(joint + part for joint, part in zip(joints, parts, strict=True))


_FORGEABLE = frozenset(spelling for name in FORGEABLE_HEADERS for spelling in _spellings(name))
_OF_PREFLIGHTS = {b"origin", b"access-control-request-method"}


class ApiKeyPolicy:
    """Checks the requests and WebSocket handshakes to `app`. The source is opened and closed with the application."""

    def __init__(self, app: App, source: Source | SourceFactory, **options: Unpack[Options]) -> None:
        self._app = app
        self._gate = Gate(source, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            if kind != "lifespan":
                raise ValueError(f"the policy can't check {kind!r}")
            await self._live(scope, receive, send)
            return
        try:
            await authenticate(self._gate, scope)
        except Refused as refused:
            if kind == "http":
                await _answer(scope, send, refused.problem)
            else:
                await _answer_handshake(scope, receive, send, refused.problem)
            return
        fields = limit_fields(scope["user"])
        await self._app(scope, receive, _telling(send, fields) if fields else send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the lifespan on, and open and close the source around it; also for an application that returns at once.

        What the application raises goes on to the server, which knows whether a lifespan is wanted: one that has
        none, as Django, is then served without, and its first request opens the source.
        """
        has_begun = has_answered = has_failed = False

        async def opened() -> Message:
            nonlocal has_begun, has_failed
            message = await receive()
            if message["type"] == "lifespan.startup":
                has_begun = True
                try:
                    await self._gate.open()
                except Exception as error:
                    has_failed = True
                    await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                    raise
            return message

        async def closed(message: Message) -> None:
            nonlocal has_answered
            if has_failed:
                return
            has_answered = True
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
                await self._gate.close()
            await send(message)

        try:
            await self._app(scope, opened, closed)
            if not has_answered and not has_begun:
                await opened()
        except Exception:
            if has_failed:
                # The server has been told, with the reason.
                return
            if has_begun:
                await self._gate.close()
            raise
        if not has_answered and not has_failed:
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await closed({"type": "lifespan.shutdown.complete"})


class RequireScopes:
    """Lets those on to `app`, a part of an application with the policy, whose key is good for all of `scopes`."""

    def __init__(self, app: App, scopes: Sequence[str]) -> None:
        """Raises TypeError, ValueError."""
        self._app = app
        self._scopes = checked(scopes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind in ("http", "websocket"):
            gate = scope.get(GATE)
            if gate is None:
                raise RuntimeError("RequireScopes stands inside of an ApiKeyPolicy, which has not seen this request")
            try:
                gate.require(scope.get("user"), self._scopes)
            except Refused as refused:
                if kind == "http":
                    await _answer(scope, send, refused.problem)
                else:
                    await _answer_handshake(scope, receive, send, refused.problem)
                return
        await self._app(scope, receive, send)


async def authenticate(gate: Gate, scope: Scope, scopes: Sequence[str] = (), charge: Charge = NO_CHARGE) -> None:
    """Put into the scope whom the connection comes from, and take out what it claims itself. Raises Refused.

    `scopes` and `charge` are a route's own. A request that this gate has let in is not asked about again, which would
    count twice.
    """
    known = scope.get("user")
    if scope.get(GATE) is gate and isinstance(known, User):
        if charge not in (NO_CHARGE, scope.get(CHARGE)):
            raise RuntimeError(
                "this request was let in before its route said what it takes: say so where it is checked"
            )
        gate.require(known, checked(scopes))
        return
    wanted = gate.header.name
    headers = scope["headers"]
    if not isinstance(headers, list):
        headers = scope["headers"] = list(headers)
    values = []
    is_forged = False
    for name, value in headers:
        if name == wanted:
            values.append(value)
        elif name in _FORGEABLE:
            is_forged = True
    if is_forged:
        # In place: a framework may have made its own view of this very list.
        headers[:] = [(name, value) for name, value in headers if name == wanted or name not in _FORGEABLE]
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(root):
        path = path[len(root) :] or "/"
    is_preflight = scope.get("method") == "OPTIONS" and {name for name, _ in headers} >= _OF_PREFLIGHTS
    find_address = None if gate.clients is None else partial(_find_client, gate.clients, scope)
    request = Request(path, values, scope["query_string"], is_preflight, find_address)
    try:
        if not gate.is_immediate:
            raise MustWait
        user, auth = gate.check(request, scopes, charge, waits=False)
    except MustWait:
        user, auth = await gate.check_async(request, scopes, charge)
    scope[GATE], scope[CHARGE] = gate, charge
    scope["user"] = user
    scope["auth"] = auth
    scope.setdefault("state", {})["user"] = user


def _telling(send: Send, fields: Mapping[str, str]) -> Send:
    """What puts these fields on the answer, whatever the application makes it."""
    told = [(name.encode(), value.encode()) for name, value in fields.items()]

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            message = {**message, "headers": [*message.get("headers", ()), *told]}
        await send(message)

    return sending


def _find_client(clients: AppClients, scope: Scope) -> Address | None:
    client, wanted = scope.get("client"), clients.header.encode()
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return clients.find(client[0] if client else "", values)


async def _answer(scope: Scope, send: Send, problem: Problem) -> None:
    start, body = _rendered(scope, problem)
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _answer_handshake(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    # The handshake is refused as an answer to it.
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        start, body = _rendered(scope, problem)
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": problem.detail or ""})


def _rendered(scope: Scope, problem: Problem) -> tuple[dict[str, Any], bytes]:
    headers, body = render(problem, scope["path"], request_id_in(scope["headers"]).decode())
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"status": problem.status, "headers": encoded}, body
