"""Owns the first steps of a request: who asks, and whether they ask too often.

A `Caller` is a way to prove who one is. Callers of the Developer API come with a management key; end users come with a
token of the identity provider (self_serve/caller.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from fastapi import Request

from keywright.origin.auth import bearer
from keywright.origin.auth.actors import Actor
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.body import Admission
from keywright.origin.pipeline.context import client_address_of
from keywright.origin.pipeline.let_in import Entrance
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.services import Services


class Caller(ABC):
    """The steps of a request that depend on how its caller proves who they are."""

    @abstractmethod
    async def authenticate(self, request: Request, services: Services) -> Actor:
        """Who asks, before anything else of the request is looked at. Raises Unauthorized and the like."""

    def entrance(self, request: Request, services: Services, admission: Admission) -> Entrance | None:
        """Under which name it is remembered for a moment that this caller may do that; None where it is not."""
        return None

    @abstractmethod
    def meter(self, actor: Actor, services: Services) -> Meter:
        """Where the requests of this actor are counted."""

    @abstractmethod
    async def accept_invites(self, request: Request, services: Services, actor: Actor) -> None:
        """Makes the caller a manager where they are invited."""

    @abstractmethod
    async def reauthenticate(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        """Who asks, in the transaction that changes something. Raises Unauthorized where they may not any more."""


class ManagementKeyCaller(Caller):
    async def authenticate(self, request: Request, services: Services) -> Actor:
        return await authenticate_management_key(request, services)

    def entrance(self, request: Request, services: Services, admission: Admission) -> Entrance | None:
        secret = bearer.parse_management_key(bearer.authorization_of(request))
        digest = services.dependencies.digester.digest(secret)
        return Entrance.of(digest, client_address_of(request), admission, request.path_params)

    def meter(self, actor: Actor, services: Services) -> Meter:
        return meter_of(actor, services)

    async def accept_invites(self, request: Request, services: Services, actor: Actor) -> None:
        """Nobody invites a management key."""

    async def reauthenticate(self, tx: Transaction, request: Request, services: Services, actor: Actor) -> Actor:
        # Judged once more, and held until the commit: it may have been revoked while the body came in or the lock was
        # waited for, and a key that its owner knows to be revoked must do nothing any more. The first time can't be
        # left out either: strangers must not have us read a body, or take the writer's lock of SQLite.
        secret = bearer.parse_management_key(bearer.authorization_of(request))
        dependencies = services.dependencies
        address = client_address_of(request)
        now = dependencies.clock()
        return await bearer.authenticate(tx, secret, dependencies.digester, now, address=address, is_held=True)


async def authenticate_management_key(request: Request, services: Services) -> Actor:
    """Who bears a management key. Raises Unauthorized, and TooManyRequests for who guesses."""
    secret = bearer.parse_management_key(bearer.authorization_of(request))
    dependencies = services.dependencies
    address = client_address_of(request)
    with services.wrong_keys.judging(address, dependencies.digester.digest(secret)):

        async def judge(tx: Transaction) -> Actor:
            return await bearer.authenticate(tx, secret, dependencies.digester, dependencies.clock(), address=address)

        return await services.database.run_read(judge)


def meter_of(actor: Actor, services: Services) -> Meter:
    """Where the management requests of an actor's account are counted."""
    limiter = services.management_rate
    detail = f"At most {limiter.rate:g} management requests a second are answered for an account."
    # An end user has no account: one user's haste is not another's.
    return Meter(limiter, actor.grantee.account_id or actor.sub, detail)
