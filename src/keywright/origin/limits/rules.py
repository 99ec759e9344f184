"""Owns sharing out global rate limits, whichever process of the origin an edge asks: the ledger, and who may change it.

The ledger is in the record's database, a row for each edge, and in the memory of each process that is asked. What comes
within a moment is answered together, in one transaction that has the ledger locked: rows that others have changed are
read, all is counted, and what was promised is committed before it is told. No two processes promise the same part,
and what is out stays counted over a start. Nothing is read or written while no edge asks.

How long ago an edge was heard is counted here, by a clock that nobody can set, from when its row was seen to change; so
the clocks of several origins, and the database's, don't matter. What the rows mean is in ledger.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from keywright.domain.problems import Conflict, ServiceUnavailable, TooManyRequests
from keywright.origin.db.transaction import Database, Transaction
from keywright.origin.deployment.store import find_deployment
from keywright.origin.edges.scopes import EdgeScope
from keywright.origin.limits import packing
from keywright.origin.limits import store as rows
from keywright.origin.limits.ledger import Ledger, Repeated
from keywright.origin.limits.members import Holding, Member, MemberKey
from keywright.protocol.reports import UNFILLED
from keywright.protocol.shares import HELD_SECONDS, RISE_SECONDS, WHOLE, ShareAnswer, UseReport
from keywright.runtime import tasks

log = logging.getLogger("keywright.origin")

GATHER_SECONDS = 0.4
"""What comes within that is answered together."""
STORE_SECONDS = 2.0
"""How old a row may be of an edge that holds no more than the row says."""
SCOPE_SECONDS = 5.0
"""How old it may be what an edge sees."""
PRUNE_SECONDS = 20.0
QUIET_SECONDS = max(HELD_SECONDS, RISE_SECONDS) + 2.0
"""When rows were lost, what they told of is over after that."""
MOST_MEMBERS = 1000
MOST_WAITING = 2000
OTHER_THREAD_WORK = 2000
"""More limits than that are reckoned while the event loop goes on."""


@dataclass(slots=True)
class Waiting:
    """A report, and who waits for its answer."""

    key: MemberKey
    report: UseReport
    scope: EdgeScope
    answered: asyncio.Future[ShareAnswer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Shares:
    """One for each process. From the event loop's own thread."""

    def __init__(self, database: Database, elapsed: Callable[[], float]) -> None:
        """`elapsed` counts seconds as `Clock.elapsed` does."""
        self._database = database
        self._elapsed = elapsed
        self._waiting: list[Waiting] = []
        self._working: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._pruned_at = float("-inf")
        self._epoch: str | None = None
        self._quiet_since = 0.0
        self._forget()

    async def answer(self, report: UseReport, scope: EdgeScope) -> ShareAnswer:
        """The shares of an edge whose token shows this. Raises Conflict, TooManyRequests, ServiceUnavailable,
        DatabaseUnavailable.
        """
        key = (scope.account_id, report.instance)
        if len(self._waiting) >= MOST_WAITING or any(one.key == key for one in self._waiting):
            raise TooManyRequests("An edge asks for its shares once a second.", headers={"Retry-After": "1"})
        waiting = Waiting(key, report, scope)
        self._waiting.append(waiting)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await waiting.answered

    async def close(self) -> None:
        """Returns when what was asked is answered: the database is needed until then."""
        self._ending.set()
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        try:
            while self._waiting:
                await tasks.pause(self._ending, GATHER_SECONDS)
                together, self._waiting = [one for one in self._waiting if not one.answered.done()], []
                if not together:
                    continue
                try:
                    answers = await self._settle(together)
                except BaseException as error:
                    # What of it is in the rows is not known.
                    self._forget()
                    for one in together:
                        if not one.answered.done():
                            one.answered.set_exception(error if isinstance(error, Exception) else ConnectionError())
                    if not isinstance(error, Exception):
                        raise
                    continue
                for one, told in zip(together, answers, strict=True):
                    if one.answered.done():
                        continue
                    if isinstance(told, Exception):
                        one.answered.set_exception(told)
                    else:
                        one.answered.set_result(told)
        finally:
            self._working = None

    def _forget(self) -> None:
        """What this process knows of the ledger: it begins anew with what is in the rows."""
        self._ledger = Ledger()
        self._beats: dict[MemberKey, int] = {}
        self._stored_at: dict[MemberKey, float] = {}
        self._seen: dict[EdgeScope, frozenset[int] | None] = {}
        self._viewed_at = float("-inf")
        self._deployment_id: str | None = None

    async def _settle(self, together: list[Waiting]) -> list[ShareAnswer | Exception]:
        """Raises DatabaseUnavailable, ServiceUnavailable."""
        async with self._database.write() as tx:
            head = await rows.lock(tx)
            is_quiet = await self._is_quiet(tx, head)
            if not is_quiet:
                await self._look(tx)
                answers = await self._answer(tx, together)
        if is_quiet:
            # Committed all the same: others must know.
            raise ServiceUnavailable(
                "What edges hold of global rate limits is not known yet.", headers={"Retry-After": "1"}
            )
        return answers

    async def _is_quiet(self, tx: Transaction, head: rows.Head) -> bool:
        """Whether rows were lost, and what they told of may still be held: nobody is told any share then.

        In the end each edge that there is goes by its fallback share.
        """
        now = self._elapsed()
        if head.epoch != self._epoch:
            if head.is_quiet:
                log.warning("what edges hold of global rate limits was lost: they go on by themselves for a while")
            self._forget()
            self._epoch, self._quiet_since = head.epoch, now
        if not head.is_quiet:
            return False
        if now - self._quiet_since <= QUIET_SECONDS:
            return True
        await rows.end_quiet(tx)
        known = await rows.list_edges(tx)
        share = WHOLE // max(len(known), 1)
        member = Member(now, now, fallback=Holding(share, share))
        await rows.put_all(tx, dict.fromkeys(known, (1, packing.pack(member))))
        return False

    async def _answer(self, tx: Transaction, together: list[Waiting]) -> list[ShareAnswer | Exception]:
        await self._admit(tx, together)
        ledger = self._ledger
        unknown = ledger.list_unknown(id for one in together for id in one.report.uses)
        if unknown:
            ledger.locate(await rows.find_buckets_of(tx, unknown))
        work = sum(len(one.report.uses) for one in together) + len(ledger.limits) * len(together)
        if work > OTHER_THREAD_WORK:
            answers = await asyncio.to_thread(self._reckon, together)
        else:
            answers = self._reckon(together)
        await self._store(tx, {one.key for one in together})
        await self._prune(tx)
        return answers

    async def _look(self, tx: Transaction) -> None:
        """Take over what other processes have written since this one looked last."""
        ledger, now = self._ledger, self._elapsed()
        if self._deployment_id is None:
            found = await find_deployment(tx)
            self._deployment_id = None if found is None else found.id
        beats = await rows.list_beats(tx)
        changed = [key for key, beat in beats.items() if self._beats.get(key) != beat]
        for key, body in (await rows.list_bodies(tx, changed)).items():
            member = packing.unpack(body, now, is_fresh=key in self._beats)
            ledger.members[key] = member
            ledger.open([*member.holdings, *member.uses], now)
        for key in [key for key in ledger.members if key not in beats]:
            del ledger.members[key]
        self._beats = beats

    async def _admit(self, tx: Transaction, together: list[Waiting]) -> None:
        """Have them all as members that see what their tokens show."""
        now = self._elapsed()
        partial = {one.scope for one in together if not one.scope.is_everything}
        if partial and (now - self._viewed_at >= SCOPE_SECONDS or not partial <= self._seen.keys()):
            self._viewed_at = now
            puts = await rows.list_buckets(tx)
            self._seen = {
                scope: frozenset(put.number for put in puts if scope.view(put) is not None)
                for scope in partial | self._seen.keys()
            }
        for one in together:
            if one.key in self._ledger.members or len(self._ledger.members) < MOST_MEMBERS:
                self._ledger.admit(one.key, self._seen[one.scope] if one.scope in partial else None, now)

    def _reckon(self, together: list[Waiting]) -> list[ShareAnswer | Exception]:
        """What each is told, or why it isn't."""
        ledger, now = self._ledger, self._elapsed()
        refused: dict[int, Exception] = {}
        for number, one in enumerate(together):
            if one.report.deployment_id not in {self._deployment_id, UNFILLED}:
                refused[number] = Conflict("This edge follows another deployment's record.")
            elif one.key not in ledger.members:
                refused[number] = TooManyRequests(f"At most {MOST_MEMBERS} edges share limits.")
            else:
                try:
                    ledger.hear(one.key, one.report, now)
                except Repeated:
                    refused[number] = Conflict("This report was heard before.")
        ledger.balance(now)
        return [refused[number] if number in refused else ledger.answer(one.key) for number, one in enumerate(together)]

    async def _store(self, tx: Transaction, keys: set[MemberKey]) -> None:
        now, kept = self._elapsed(), {}
        for key in keys & self._ledger.members.keys():
            member = self._ledger.members[key]
            if member.has_grown or now - self._stored_at.get(key, float("-inf")) >= STORE_SECONDS:
                member.has_grown = False
                self._beats[key] = self._beats.get(key, 0) + 1
                self._stored_at[key] = now
                kept[key] = (self._beats[key], packing.pack(member))
        await rows.put_all(tx, kept)

    async def _prune(self, tx: Transaction) -> None:
        now = self._elapsed()
        if now - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = now
        gone = self._ledger.prune(await rows.list_edges(tx), now)
        await rows.delete_all(tx, gone)
        for key in gone:
            self._beats.pop(key, None)
