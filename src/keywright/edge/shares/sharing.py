"""Owns asking for this edge's shares of global limits, about once a second while there are any, and setting them.

Where there are none it asks seldom, so that it has a part of the first one when that comes. One process of an edge
asks for all: they count in one table. What it is told goes into the table with its end, so
that all goes by the rules of held.py also when this process is stopped, or no answer comes any more. A note keeps the
fallback share for the next start, and tells the other processes how this is going.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from keywright.edge.origin_calls import NotTaken
from keywright.edge.shares.held import HeldShares
from keywright.edge.shares.meter import UseMeter
from keywright.protocol.shares import (
    ANSWER_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MAX_LIMITS,
    MAX_USES,
    WHOLE,
    ShareAnswer,
    Use,
    UseReport,
)

if TYPE_CHECKING:
    from keywright.edge.limits.table import LimitTable, TableUse
    from keywright.edge.note_file import NoteFile

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
IDLE_SCAN_SECONDS = 5.0
"""Where no bucket has limits, the table is gone through so much less often: it costs some milliseconds."""
"""How often it is looked whether there are global limits at all; and after a failure, how soon it asks again."""
UNUSED_SECONDS = 30.0
"""How often it asks while there are none, and it is told the same as before."""
USED_SECONDS = 30.0
"""A limit that was asked for within that is in use."""
RENEW_SECONDS = 5.0
"""When less than that is left of what the table has of a share, its end is written anew."""
NOTE_SECONDS = 1.0
SET_AT_ONCE = 500
"""Shares that are set while nobody else counts in that part of the table."""


class ShareChannel(Protocol):
    """The way to the origin."""

    async def ask(self, report: UseReport) -> ShareAnswer:
        """Raises NotTaken."""
        ...


@dataclass(frozen=True, slots=True)
class Teller:
    """As whom an edge asks: its instance, this start of it, and whose record it follows."""

    instance: str
    start: str
    deployment_id: Callable[[], str]


class Sharing:
    """`run` it, until it is cancelled, in the one process that follows."""

    def __init__(
        self,
        table: LimitTable,
        channel: ShareChannel,
        teller: Teller,
        elapsed: Callable[[], float],
        note: NoteFile,
        *,
        boot_id: str | None,
        has_limits: Callable[[], bool],
    ) -> None:
        """`elapsed` counts seconds as `Clock.elapsed` does. `has_limits`: whether any key may have global limits."""
        self._table = table
        self._channel = channel
        self._teller = teller
        self._elapsed = elapsed
        self._note = note
        self._boot_id = boot_id
        self._has_limits = has_limits
        self._held = HeldShares(elapsed())
        self._number = 0
        self._meter = UseMeter(elapsed())
        self._set: dict[bytes, tuple[int, float]] = {}
        """What the table has of shares: parts, and until when."""
        self._freed: dict[bytes, int] = {}
        """What was not used of what this edge has given up, in parts: yet to be told."""
        self._fallback: int | None = None
        self._unused_until = float("-inf")
        """Until then it need not ask while there are no limits."""
        self._edges = 0
        self._noted_at = float("-inf")
        self._scanned_at = float("-inf")
        self._has_failed = False

    async def run(self) -> None:
        self._begin()
        while True:
            began, pause = self._elapsed(), LOOK_SECONDS
            is_used = True
            try:
                await self._set_shares()
                has_limits = self._has_limits()
                uses: list[TableUse] = []
                if has_limits or began >= self._scanned_at + IDLE_SCAN_SECONDS:
                    uses = await asyncio.to_thread(self._table.list_uses, USED_SECONDS)
                    # Found once, it is looked for each time.
                    self._scanned_at = float("-inf") if uses else began
                is_used = bool(uses) or has_limits
                if is_used or began >= self._unused_until:
                    pause = await self._ask(self._meter.measure(uses, self._elapsed()))
                    await self._set_shares()
                    self._write_note()
                    self._has_failed = False
            except (NotTaken, OSError) as error:
                if is_used:
                    self._say(error)
                self._unused_until = began + LONGEST_PAUSE_SECONDS
            except Exception:  # noqa: BLE001
                # A bug, which must not end the asking for good.
                _log.exception("can't share global rate limits")
            await asyncio.sleep(min(max(pause - (self._elapsed() - began), 0.1), LONGEST_PAUSE_SECONDS))

    def _begin(self) -> None:
        """Go on with what was noted before, by this machine's count of time if it has not started anew."""
        now = self._elapsed()
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            noted = self._note.read()
            fallback = int(noted["fallback"])
            is_kept = noted["boot"] is not None and noted["boot"] == self._boot_id
            if 0 <= fallback <= WHOLE:
                self._held = HeldShares(now, fallback=fallback, is_kept=is_kept)

    async def _ask(self, uses: Mapping[bytes, Use]) -> float:
        """Tell all, in as many parts as that takes; the pause that is asked for. Raises NotTaken."""
        told = list(uses.items())[:MAX_LIMITS]
        parts = [dict(told[start : start + MAX_USES]) for start in range(0, len(told), MAX_USES)] or [{}]
        pause = LOOK_SECONDS
        for part, some in enumerate(parts):
            asked_at = self._elapsed()
            # Told once: if it is lost on its way it is used up.
            freed, self._freed = dict(islice(self._freed.items(), MAX_USES)), {}
            self._number += 1
            teller = self._teller
            report = UseReport(
                teller.deployment_id(),
                teller.instance,
                teller.start,
                self._number,
                self._held.taken(asked_at),
                some,
                part,
                len(parts),
                freed,
            )
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await self._channel.ask(report)
            except TimeoutError:
                raise NotTaken("no answer in time") from None
            if self._elapsed() - asked_at > ANSWER_SECONDS:
                # This machine slept, or this process was stopped.
                raise NotTaken("the answer came too late")
            # A new part is counted with at the origin when it hears that this edge has it: by the next question.
            is_settled = 0 < answer.fallback == self._held.fallback_at(asked_at)
            self._unused_until = asked_at + UNUSED_SECONDS if is_settled else asked_at
            self._held.take(answer, asked_at)
            pause, self._edges = answer.pause_seconds, answer.edges
        return pause

    async def _set_shares(self) -> None:
        """Have the table hold what holds. Raises OSError."""
        now, held = self._elapsed(), self._held
        fallback = held.fallback_at(now)
        # Of two that change the lesser comes first: what is given up was promised to others.
        if self._fallback is None or fallback < self._fallback:
            await self._set_fallback(fallback)
        due: dict[float, dict[bytes, float]] = {}
        for id, share in held.shares_at(now).items():
            # A share below the fallback holds for longer, until others can't have what it grows by.
            until = held.rises_at if share <= fallback else held.held_until
            had, had_until = self._set.get(id, (None, 0.0))
            if share != had or (until > had_until and had_until - now < RENEW_SECONDS):
                due.setdefault(until, {})[id] = share / WHOLE
                self._set[id] = (share, until)
        for until, shares in due.items():
            some = list(shares.items())
            for start in range(0, len(some), SET_AT_ONCE):
                part = dict(some[start : start + SET_AT_ONCE])
                unused = {id: held.unused.pop(id) / WHOLE for id in part if id in held.unused}
                try:
                    freed = await asyncio.to_thread(self._table.set_shares, part, until=until, unused=unused)
                    for id, parts in freed.items():
                        self._freed[id] = self._freed.get(id, 0) + int(parts * WHOLE)
                except BaseException:
                    self._set.clear()
                    raise
        for id in [id for id in self._set if id not in held.shares]:
            del self._set[id]
        if fallback != self._fallback:
            await self._set_fallback(fallback)

    async def _set_fallback(self, fallback: int) -> None:
        await asyncio.to_thread(self._table.set_fallback_share, fallback / WHOLE)
        self._fallback = fallback

    def _write_note(self) -> None:
        now = self._elapsed()
        if now - self._noted_at >= NOTE_SECONDS:
            self._noted_at = now
            self._note.write(
                {
                    "boot": self._boot_id,
                    "asked_at": self._held.asked_at,
                    "fallback": self._held.fallback,
                    "edges": self._edges,
                    "limits": len(self._held.shares),
                }
            )

    def _say(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning(
                "can't get this edge's shares of global rate limits: %s; after 10 s it has an even part", error
            )
