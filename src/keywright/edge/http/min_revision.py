"""Owns `Min-Revision: N`: a validation that must not be answered from a replica that has not yet applied change N.

Whoever has just made a change, and has its revision from `Keywright-Revision`, can so ask any edge and be sure that the
answer knows of it. The edge waits a moment for the change, then says 503: it never says no for being late.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from keywright.domain.problems import BadRequest, ServiceUnavailable

if TYPE_CHECKING:
    from keywright.edge.http.endpoint import Scope
    from keywright.edge.validator import Validator

HEADER = b"min-revision"
WAIT_SECONDS = 0.5
LOOK_SECONDS = 0.005
_DIGITS = 18


class MinRevision:
    """One for each endpoint. However many requests wait, the replica is looked at by one of them for all."""

    def __init__(self, validator: Validator, wait_seconds: float) -> None:
        self._validator = validator
        self._wait_seconds = wait_seconds
        self._looking: asyncio.Task[int] | None = None

    async def reach(self, scope: Scope) -> None:
        """Return when the replica has the revision that the request asks for. Raises BadRequest, ServiceUnavailable."""
        wanted = max(_parse(value) for name, value in scope["headers"] if name == HEADER)
        deadline = time.monotonic() + self._wait_seconds
        revision = self._validator.revision or 0
        while revision < wanted:
            if time.monotonic() >= deadline:
                detail = f"This replica is at revision {revision}, and {wanted} was asked for."
                raise ServiceUnavailable(detail, headers={"retry-after": "1"})
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_soon())
            revision = await asyncio.shield(self._looking)

    async def _look_soon(self) -> int:
        # A poll, not a notification: it may be another process that applies what this one waits for.
        await asyncio.sleep(LOOK_SECONDS)
        return self._validator.revision or 0


def _parse(value: bytes) -> int:
    if not value.isdigit() or len(value) > _DIGITS:
        message = f"must be a revision: a whole number of at most {_DIGITS} digits"
        raise BadRequest("The request is not valid.", errors=[{"field": "header.min-revision", "message": message}])
    return int(value)
