"""Owns what each request of an end user gets: the user behind the token, a rate, and the invites that are accepted."""

from __future__ import annotations

import math
import time

from fastapi import Request

from keywright.domain.problems import TooManyRequests
from keywright.origin.audit import rules as audit
from keywright.origin.auth import bearer as auth
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.end_users import EndUser, authenticate_end_user
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.route import OriginRoute, Services, authorization_of
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.origin.self_serve import rules as self_serve


class EndUserRoute(OriginRoute):
    """A route of the Self-serve API, below a bucket."""

    async def admit(self, request: Request, services: Services) -> Actor:
        token = auth.parse_bearer(authorization_of(request), "token")
        user = await authenticate_end_user(token, services.end_users, services.dependencies.clock())
        wait = services.end_user_rate.take(user.sub, time.monotonic())
        if wait > 0:
            raise TooManyRequests("You are asking too often.", headers={"Retry-After": str(math.ceil(wait))})
        await accept_invites(request, services, user, request.path_params["bucketName"])
        return user.to_actor()

    async def readmit(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        # The token is as good as it was a moment ago; whom the user manages is asked in the transaction itself.
        return actor


async def accept_invites(request: Request, services: Services, user: EndUser, bucket_name: str) -> None:
    """Makes managers of the user's open invites in a bucket. Writes nothing where there are none."""
    actor = user.to_actor()
    now = services.dependencies.clock()
    async with services.database.read() as tx:
        work = UnitOfWork(tx, actor, now, services.dependencies, AuditDraft())
        if not await self_serve.has_invites(work, await self_serve.get_bucket(work, bucket_name)):
            return
    async with services.database.write() as tx:
        audit_draft = AuditDraft("manager.accept")
        work = UnitOfWork(tx, actor, now, services.dependencies, audit_draft)
        if await self_serve.accept_invites(work, await self_serve.get_bucket(work, bucket_name)):
            await audit.write(tx, actor=actor, audit_draft=audit_draft, source=request_source_of(request), now=now)
