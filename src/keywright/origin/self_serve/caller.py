"""Owns who calls the Self-serve API: an end user, whose token the identity provider vouches for, below a bucket."""

from __future__ import annotations

from fastapi import Request

from keywright.origin.audit import rules as audit
from keywright.origin.auth import bearer
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.end_users import authenticate_end_user
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.authenticate import Caller
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.origin.self_serve import rules


class EndUserCaller(Caller):
    async def authenticate(self, request: Request, services: Services) -> Actor:
        token = bearer.parse_bearer(bearer.authorization_of(request), "token")
        user = await authenticate_end_user(token, services.end_users, services.dependencies.clock())
        return user.to_actor()

    def meter(self, actor: Actor, services: Services) -> Meter:
        # An end user has no account: one user's haste is not another's.
        return Meter(services.end_user_rate, actor.sub, "You are asking too often.")

    async def accept_invites(self, request: Request, services: Services, actor: Actor) -> None:
        """Makes a manager of the user wherever the bucket invites them. Writes nothing where it does not."""
        bucket_name = request.path_params["bucketName"]
        now = services.dependencies.clock()
        async with services.database.read() as tx:
            work = UnitOfWork(tx, actor, now, services.dependencies, AuditDraft())
            if not await rules.has_invites(work, await rules.get_bucket(work, bucket_name)):
                return
        if services.disk is not None and services.disk.is_low:
            # Nobody's reading fails for that: they become a manager when there is room again.
            return
        async with services.database.write() as tx:
            audit_draft = AuditDraft("manager.accept")
            work = UnitOfWork(tx, actor, now, services.dependencies, audit_draft)
            if await rules.accept_invites(work, await rules.get_bucket(work, bucket_name)):
                source = request_source_of(request)
                await audit.write(tx, actor=actor, audit_draft=audit_draft, source=source, now=now)

    async def reauthenticate(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        # The token is as good as it was a moment ago; whom the user manages is asked in the transaction itself.
        return actor
