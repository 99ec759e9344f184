"""Owns the addresses of the feed: who may follow, what is answered, and the frames in which it goes out.

    GET /v1/feed                      one frame: whose record this is
    GET /v1/feed/snapshot             the record at one revision: pages, then an end frame
    GET /v1/feed/changes?after=CURSOR changes from then on, for ever; a heartbeat when there are none
    POST /v1/feed/acknowledgements    what an edge has applied (acknowledgements.py)

A request carries an edge token and a nonce of its own, which every frame of the answer repeats. No transaction is open
while an answer of changes waits for its reader; a snapshot holds one, for a limited time and for few readers at once.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response

from keywright.domain.problems import BadRequest, Forbidden, Gone, Problem, ServiceUnavailable, Unauthorized
from keywright.origin.auth import bearer as auth
from keywright.origin.auth.actors import Actor
from keywright.origin.db.commit_log import NotKept
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.snapshot_stream import list_bucket_puts, list_system_consumers, stream_snapshot
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed import scope_filter as scope
from keywright.origin.feed.acknowledgements import Acknowledgements
from keywright.origin.feed.frame_stream import FrameStream
from keywright.origin.feed.log_tail import Stretch, Tail
from keywright.origin.feed.scope_filter import Sight, SightChanged
from keywright.origin.pipeline.respond import render, to_problem
from keywright.origin.pipeline.services import Services
from keywright.protocol.changes import NOWHERE, Change, Cursor
from keywright.protocol.frames import Frame, FrameKind, FrameSigner, pack

log = logging.getLogger("keywright.origin")

HEARTBEAT_SECONDS = 2.0
TOKEN_CHECK_SECONDS = 1.0
AWAY_SECONDS = 10.0
"""A stream that can't have looked at the record for this long ends: its heartbeats would say nothing."""
SNAPSHOTS_AT_ONCE = 4
SNAPSHOT_SECONDS = 1800.0
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(slots=True)
class Answer:
    """What the frames of one answer have in common, and the count of them."""

    signer: FrameSigner
    deployment_id: str
    scope: str
    nonce: str
    number: int = field(default=0)

    def frame(
        self,
        kind: FrameKind,
        *,
        at: float,
        cursor: Cursor = NOWHERE,
        follows: Cursor | None = None,
        head: int = 0,
        changes: Sequence[Change] = (),
    ) -> bytes:
        places = (cursor if follows is None else follows), cursor, max(head, cursor.revision)
        common = self.deployment_id, kind, self.scope, self.nonce, self.number
        frame = Frame(*common, *places, int(at * 1000), changes)
        self.number += 1
        return self.signer.encode(frame)


class FeedDoor:
    """One for each process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._signer = FrameSigner(services.dependencies.digester)
        self._tail = Tail(services.database)
        self._snapshots = 0
        self.router = APIRouter(prefix="/v1/feed", include_in_schema=False)
        for path, frames in (("", self._about), ("/snapshot", self._snapshot), ("/changes", self._changes)):
            self.router.add_api_route(path, self._endpoint(frames), methods=["GET"], response_model=None)
        reports = Acknowledgements(services, self._authenticate)
        self.router.add_api_route("/acknowledgements", reports.answer, methods=["POST"], response_model=None)

    @property
    def tail(self) -> Tail:
        """The end of the log, for whoever else in this process follows it."""
        return self._tail

    async def wake(self, revision: int) -> None:
        """Have the readers look for what was committed."""
        self._tail.ring()

    def stop(self) -> None:
        """End every stream, so that the process can go."""
        self._tail.stop()

    def _endpoint(self, frames: Callable[..., AsyncIterator[bytes]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                nonce = _nonce_of(request)
                after = _cursor_of(request) if frames == self._changes else NOWHERE
                actor = await self._authenticate(request)
                async with self._services.database.read() as tx:
                    deployment = await find_deployment(tx)
                if deployment is None:
                    raise ServiceUnavailable("There is no deployment here yet.")
                common = Answer(self._signer, deployment.id, scope.scope_id(actor.grantee), nonce)
                running = frames(request, actor, common, after)
                # What can be refused is refused before the answer begins.
                first = await anext(running, None)
                if first is None:
                    raise ServiceUnavailable("This process is about to end.", headers={"retry-after": "1"})
            except NotKept as error:
                log.warning("a reader needs a snapshot: %s", error)
                problem: Exception = Gone("The record does not have that revision with that stamp. Take a snapshot.")
            except Exception as error:  # noqa: BLE001
                problem = error
            else:
                headers = {"keywright-pepper-check": deployment.pepper_check}
                return FrameStream(first, running, headers, request.headers.get("accept-encoding", ""))
            return render(to_problem(problem, request), request)

        return answer

    async def _authenticate(self, request: Request) -> Actor:
        """The reader, if it may follow. Raises Unauthorized, Forbidden."""
        shown = request.headers.getlist("authorization")
        if len(shown) > 1:
            raise Unauthorized("Send one Authorization header, not several.")
        secret = auth.parse_management_key(shown[0] if shown else None)
        dependencies = self._services.dependencies
        async with self._services.database.read() as tx:
            actor = await auth.authenticate(tx, secret, dependencies.digester, dependencies.clock())
        if not scope.may_follow(actor.grantee):
            raise Forbidden("This management key may not follow the feed.")
        return actor

    async def _about(self, request: Request, actor: Actor, answer: Answer, after: Cursor) -> AsyncIterator[bytes]:
        yield answer.frame(FrameKind.END, at=time.monotonic())

    async def _snapshot(self, request: Request, actor: Actor, answer: Answer, after: Cursor) -> AsyncIterator[bytes]:
        if self._snapshots >= SNAPSHOTS_AT_ONCE:
            raise ServiceUnavailable("Enough snapshots are under way.", headers={"retry-after": "5"})
        self._snapshots += 1
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        try:
            sight = Sight(actor.grantee)
            async with self._services.database.read(is_snapshot=True) as tx:
                deployment = await find_deployment(tx)
                cursor = deployment.head if deployment is not None else NOWHERE
                yield answer.frame(FrameKind.PAGE, at=time.monotonic(), cursor=cursor)
                async for page in stream_snapshot(tx):
                    for part in pack([put for put in page if sight.shows(put)]):
                        yield answer.frame(FrameKind.PAGE, at=time.monotonic(), cursor=cursor, changes=part)
                        if time.monotonic() > deadline or self._tail.is_stopped:
                            return
            yield answer.frame(FrameKind.END, at=time.monotonic(), cursor=cursor)
        finally:
            self._snapshots -= 1

    async def _changes(self, request: Request, actor: Actor, answer: Answer, after: Cursor) -> AsyncIterator[bytes]:
        async with self._tail.reading():
            sight = await self._sight_of(actor)
            stretch = await self._tail.read(after)
            checked_at = sent_at = time.monotonic()
            is_due = True
            while not self._tail.is_stopped:
                if stretch.changes or is_due:
                    try:
                        frames = self._frames(answer, sight, stretch)
                    except SightChanged:
                        place = stretch.follows
                        yield answer.frame(FrameKind.SNAPSHOT, at=stretch.as_of, cursor=place, head=stretch.head)
                        return
                    for frame in frames:
                        yield frame
                    sent_at = time.monotonic()
                now = time.monotonic()
                if now - checked_at >= TOKEN_CHECK_SECONDS:
                    if not await self._is_still(actor, request):
                        return
                    checked_at = now
                next_check, next_heartbeat = checked_at + TOKEN_CHECK_SECONDS, sent_at + HEARTBEAT_SECONDS
                try:
                    stretch = await self._tail.after(stretch.cursor, max(0.0, min(next_check, next_heartbeat) - now))
                except (NotKept, DatabaseUnavailable) as error:
                    log.warning("a stream of changes ends: %s", error)
                    return
                now = time.monotonic()
                if now - stretch.as_of > AWAY_SECONDS:
                    return
                is_due = now - sent_at >= HEARTBEAT_SECONDS

    def _frames(self, answer: Answer, sight: Sight, stretch: Stretch) -> list[bytes]:
        """The frames of a stretch, the empty one too: that is a heartbeat. Raises SightChanged."""
        passed = [sight.pass_on(change) for _, change in stretch.changes]
        cursors = [stretch.follows, *(cursor for cursor, _ in stretch.changes)]
        frames = []
        place = 0
        for part in pack(passed) if passed else [()]:
            follows, cursor = cursors[place], cursors[place + len(part)]
            at, head = stretch.as_of, stretch.head
            frames.append(
                answer.frame(FrameKind.CHANGES, at=at, follows=follows, cursor=cursor, head=head, changes=part)
            )
            place += len(part)
        return frames

    async def _sight_of(self, actor: Actor) -> Sight:
        sight = Sight(actor.grantee)
        if not sight.is_everything:
            async with self._services.database.read(is_snapshot=True) as tx:
                puts: list[Change] = [*await list_bucket_puts(tx), *await list_system_consumers(tx)]
            for put in puts:
                sight.shows(put)
        return sight

    async def _is_still(self, actor: Actor, request: Request) -> bool:
        """Whether the reader's token is as good as it was; when the record can't be asked, it is."""
        try:
            return (await self._authenticate(request)).grantee == actor.grantee
        except DatabaseUnavailable:
            return True
        except Problem:
            return False


def _nonce_of(request: Request) -> str:
    nonce = request.headers.get("keywright-nonce", "")
    if _NONCE.fullmatch(nonce) is None:
        raise BadRequest("Send 16 to 64 of A-Z, a-z, 0-9, _ and - in Keywright-Nonce, new ones with each request.")
    return nonce


def _cursor_of(request: Request) -> Cursor:
    try:
        return Cursor.parse(request.query_params.get("after", ""))
    except ValueError as error:
        message = "must be the cursor that the reader is at: revision.stamp.milliseconds"
        raise BadRequest("The request is not valid.", errors=[{"field": "query.after", "message": message}]) from error
