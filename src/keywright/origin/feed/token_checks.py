"""Owns whether a token that follows is still as good as it was: asked once for all of its streams."""

from __future__ import annotations

import asyncio

from fastapi import Request

from keywright.domain.permissions import Grantee
from keywright.domain.problems import Problem
from keywright.origin.auth import bearer
from keywright.origin.auth.actors import Actor
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.pipeline.context import client_address_of
from keywright.origin.pipeline.services import Services
from keywright.runtime.clock import Clock

FRESH_SECONDS = 0.5
"""How old an answer may be that another stream of the token asked for."""


class TokenChecks:
    """One for each process. Tokens are told apart by their key's id, which nobody else's secret can have, and by where
    they are used from: a key may be good at some addresses only.
    """

    def __init__(self, services: Services, clock: Clock) -> None:
        self._services = services
        self._clock = clock
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Task[Grantee | None]]] = {}

    async def may_still(self, actor: Actor, request: Request) -> bool:
        """Whether the token has the rights that it had; when the record can't be asked, it has."""
        now = self._clock.elapsed()
        address = client_address_of(request)
        asked_at, asking = self._asked.get((actor.sub, address), (0.0, None))
        if asking is None or now - asked_at >= FRESH_SECONDS:
            self._forget(now)
            secret = bearer.parse_management_key(bearer.authorization_of(request))
            asking = asyncio.create_task(self._ask(secret, address))
            self._asked[actor.sub, address] = now, asking
        try:
            # One of the streams may end meanwhile; the others still wait for the answer.
            return await asyncio.shield(asking) == actor.grantee
        except DatabaseUnavailable:
            return True

    async def _ask(self, secret: str, address: str) -> Grantee | None:
        # Not as at the beginning: who was let in does not guess.
        dependencies = self._services.dependencies
        try:
            async with self._services.database.read() as tx:
                now = dependencies.clock()
                actor = await bearer.authenticate(tx, secret, dependencies.digester, now, address=address)
                return actor.grantee
        except Problem:
            return None

    def _forget(self, now: float) -> None:
        self._asked = {of: one for of, one in self._asked.items() if now - one[0] < FRESH_SECONDS}
