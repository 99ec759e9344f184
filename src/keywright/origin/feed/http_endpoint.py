"""Owns the addresses of the feed: who may follow, and which answer a request gets.

    GET /v1/feed                      one frame: whose record this is
    GET /v1/feed/snapshot             the record at one revision: pages, then an end frame
    GET /v1/feed/changes?after=CURSOR changes from then on, for ever; a heartbeat when there are none
    POST /v1/feed/acknowledgements    what an edge has applied (acknowledgements.py)
    POST /v1/feed/leases              what of quotas an edge may spend, and has spent (leases.py)
    POST /v1/feed/shares              which global rate limits it uses, for its shares of them (limits/endpoint.py)
    POST /v1/feed/usage               what keys did, as it has counted it (usage/intake/endpoint.py)

A request carries an edge token and a nonce of its own, which every frame of the answer repeats, and names the newest
format of the feed that the reader reads; who names none is of the first release (protocol/feed_formats.py). What the
frames are is in answers.py, how they are sent in frame_stream.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import APIRouter, Request, Response

from keywright.domain.problems import BadRequest, Forbidden, Gone, ServiceUnavailable
from keywright.origin.auth.actors import Actor
from keywright.origin.db import commit_log
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed import answers, scope_filter
from keywright.origin.feed.acknowledgements import HttpAcknowledgements
from keywright.origin.feed.answers import FeedSource, FrameSeries
from keywright.origin.feed.frame_stream import FrameStream
from keywright.origin.feed.leases import HttpLeases
from keywright.origin.feed.log_tail import LogTail
from keywright.origin.feed.places import StreamPlaces
from keywright.origin.feed.token_checks import TokenChecks
from keywright.origin.limits.endpoint import HttpShares
from keywright.origin.pipeline.authenticate import authenticate_management_key
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import render, to_problem
from keywright.origin.pipeline.services import Services
from keywright.origin.quotas import losses
from keywright.origin.usage.intake.endpoint import HttpUsage
from keywright.protocol import feed_formats
from keywright.protocol.changes import Cursor
from keywright.protocol.frames import FrameSigner
from keywright.runtime.clock import Clock

log = logging.getLogger("keywright.origin")

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")

Frames = Callable[["FeedEndpoint", Request, Actor, FrameSeries], AsyncIterator[bytes]]
"""The frames of an answer to a request that was found to be good."""


class FeedEndpoint:
    """What the handlers of the feed share. One for each process, as `state.feed` of the application."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.services = services
        self.signer = FrameSigner(services.dependencies.digester)
        self.tail = LogTail(services.database, clock)
        """The end of the log, also for whoever else in this process follows it."""
        self.source = FeedSource(services.database, self.tail, clock, StreamPlaces(services.feed_streams_of_token))
        self.acknowledgements = HttpAcknowledgements(services)
        self.leases = HttpLeases(services)
        self.shares = HttpShares(services.shares, services.dependencies.digester)
        self.usage = HttpUsage(services.intake, services.dependencies.digester)
        self._checks = TokenChecks(services, clock)

    async def wake(self, revision: int) -> None:
        """Have the readers look for what was committed."""
        self.tail.wake()

    def stop(self) -> None:
        """End every stream, so that the process can go."""
        self.tail.stop()

    async def authenticate(self, request: Request) -> Actor:
        """The reader, if it may follow. Raises Unauthorized, Forbidden, TooManyRequests."""
        actor = await authenticate_management_key(request, self.services)
        if not scope_filter.may_follow(actor.grantee):
            raise Forbidden("This management key may not follow the feed.")
        return actor

    def meter(self, actor: Actor) -> Meter:
        """Where the questions of an account's edges are counted: apart from its management requests."""
        limiter = self.services.management_rate
        detail = f"At most {limiter.rate:g} requests to the feed a second are answered for an account."
        return Meter(limiter, f"feed {answers.account_of(actor.grantee)}", detail)

    async def may_still(self, actor: Actor, request: Request) -> bool:
        """Whether the reader's token is as good as it was; when the record can't be asked, it is."""
        return await self._checks.may_still(actor, request)


async def get_deployment(request: Request) -> Response:
    return await _answer(request, _deployment)


async def get_snapshot(request: Request) -> Response:
    return await _answer(request, _snapshot)


async def get_changes(request: Request) -> Response:
    return await _answer(request, _changes, check=_cursor_of)


async def post_acknowledgement(request: Request) -> Response:
    endpoint: FeedEndpoint = request.app.state.feed
    return await endpoint.acknowledgements.answer(request, endpoint.authenticate, endpoint.meter)


async def post_leases(request: Request) -> Response:
    endpoint: FeedEndpoint = request.app.state.feed
    return await endpoint.leases.answer(request, endpoint.authenticate, endpoint.meter)


async def post_shares(request: Request) -> Response:
    endpoint: FeedEndpoint = request.app.state.feed
    return await endpoint.shares.answer(request, endpoint.authenticate, endpoint.meter)


async def post_usage(request: Request) -> Response:
    endpoint: FeedEndpoint = request.app.state.feed
    return await endpoint.usage.answer(request, endpoint.authenticate, endpoint.meter)


ROUTES: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
    ("GET", "", get_deployment),
    ("GET", "/snapshot", get_snapshot),
    ("GET", "/changes", get_changes),
    ("POST", "/acknowledgements", post_acknowledgement),
    ("POST", "/leases", post_leases),
    ("POST", "/shares", post_shares),
    ("POST", "/usage", post_usage),
)


def new_router() -> APIRouter:
    """For an application that has a FeedEndpoint as its `state.feed`."""
    router = APIRouter(prefix="/v1/feed", include_in_schema=False)
    for method, path, handler in ROUTES:
        router.add_api_route(path, handler, methods=[method], response_model=None)
    return router


async def _answer(request: Request, frames: Frames, check: Callable[[Request], object] | None = None) -> Response:
    """What can be refused is refused before the answer begins: what `check` finds, and all until the first frame."""
    endpoint: FeedEndpoint = request.app.state.feed
    try:
        nonce, feed_format = _nonce_of(request), _format_of(request)
        if check is not None:
            check(request)
        actor = await endpoint.authenticate(request)
        endpoint.meter(actor).check()
        async with endpoint.services.database.read() as tx:
            deployment = await find_deployment(tx)
        if deployment is None:
            raise ServiceUnavailable("There is no deployment here yet.")
        scope = feed_formats.scope_in(scope_filter.scope_id(actor.grantee), feed_format)
        series = FrameSeries(endpoint.signer, deployment.id, scope, nonce, feed_format)
        running = frames(endpoint, request, actor, series)
        first = await anext(running, None)
        if first is None:
            raise ServiceUnavailable("This process is about to end.", headers={"retry-after": "1"})
    except NotKept as error:
        log.warning("a reader needs a snapshot: %s", error)
        if check is not None:
            await _note_lost_cursor(endpoint, _cursor_of(request), actor)
        problem: Exception = Gone("The record does not have that revision with that stamp. Take a snapshot.")
    except Exception as error:  # noqa: BLE001
        problem = error
    else:
        headers = {"keywright-pepper-check": deployment.pepper_check}
        return FrameStream(first, running, headers, request.headers.get("accept-encoding", ""))
    return render(to_problem(problem, request), request)


async def _note_lost_cursor(endpoint: FeedEndpoint, cursor: Cursor, actor: Actor) -> None:
    """The reader may be the first to show that the record went back: then nobody knows what of quotas is lent."""
    try:
        async with endpoint.services.database.read() as tx:
            is_lost = await commit_log.went_back(tx, cursor)
        if is_lost:
            async with endpoint.services.database.write() as tx:
                await losses.note_lost_cursor(tx, cursor, actor.grantee)
    except DatabaseUnavailable as error:
        # It comes again, with its questions for quotas if not with this.
        log.warning("whether the record went back can't be noted: %s", error)


def _deployment(endpoint: FeedEndpoint, request: Request, actor: Actor, series: FrameSeries) -> AsyncIterator[bytes]:
    return answers.deployment_frames(endpoint.source, series)


def _snapshot(endpoint: FeedEndpoint, request: Request, actor: Actor, series: FrameSeries) -> AsyncIterator[bytes]:
    return answers.snapshot_frames(endpoint.source, series, actor.grantee)


def _changes(endpoint: FeedEndpoint, request: Request, actor: Actor, series: FrameSeries) -> AsyncIterator[bytes]:
    async def may_still() -> bool:
        return await endpoint.may_still(actor, request)

    return answers.change_frames(endpoint.source, series, actor, _cursor_of(request), may_still)


def _nonce_of(request: Request) -> str:
    nonce = request.headers.get("keywright-nonce", "")
    if _NONCE.fullmatch(nonce) is None:
        raise BadRequest("Send 16 to 64 of A-Z, a-z, 0-9, _ and - in Keywright-Nonce, new ones with each request.")
    return nonce


def _format_of(request: Request) -> int:
    try:
        return feed_formats.format_named(request.headers.getlist(feed_formats.HEADER))
    except ValueError as error:
        raise BadRequest(f"Name the newest format that you read, once, in Keywright-Feed-Format: {error}.") from error


def _cursor_of(request: Request) -> Cursor:
    try:
        return Cursor.parse(request.query_params.get("after", ""))
    except ValueError as error:
        message = "must be the cursor that the reader is at: revision.stamp.milliseconds"
        raise BadRequest("The request is not valid.", errors=[{"field": "query.after", "message": message}]) from error
