"""Owns the end of grants that end by themselves.

The origin judges each grant by its time. Edges judge by what they were told: so once the time is over, whichever origin
sees it first takes the grant away, as somebody would who stops sharing the bucket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from keywright.origin.audit import rules as audit
from keywright.origin.buckets import store as rows
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.pipeline.publish import NotAppliedHere
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.runtime import tasks

log = logging.getLogger("keywright.origin")

LOOK_SECONDS = 1.0


class GrantEnds:
    """Takes away what has ended. One for each process; `run` it until `stop` is set."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], publish: Callable[[int], Awaitable[None]]
    ) -> None:
        """`publish` makes a revision known to this process."""
        self._database = database
        self._clock = clock
        self._publish = publish

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.look()
            except (DatabaseUnavailable, NotAppliedHere) as error:
                # Others say so, louder: it is tried again at once.
                log.debug("grants that have ended are looked for again: %s", error)
            except Exception:
                log.exception("grants that have ended can't be taken away")
            await tasks.pause(stop, LOOK_SECONDS)

    async def look(self) -> None:
        """Take away what has ended by now. Raises DatabaseUnavailable."""
        names = await self._database.run_read(lambda tx: rows.list_ended_grants(tx, self._clock()))
        for name in names:
            async with self._database.write() as tx:
                await _take_away(tx, name, self._clock())
            if tx.revision is not None:
                await self._publish(tx.revision)


async def _take_away(tx: Transaction, name: str, now: datetime) -> None:
    # Held: whoever shares it again meanwhile comes before or after this.
    bucket = await rows.find(tx, name, is_for_update=True)
    if bucket is None:
        return
    for account in (await rows.delete_ended_grants(tx, bucket, now)).values():
        draft = AuditDraft("grant.delete", bucket.account_id)
        draft.concerns("bucket", bucket.id, name=bucket.name, account=account, hasEnded=True)
        await audit.write_by_system(tx, draft, now=now)
