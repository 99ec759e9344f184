"""Owns the mirrors of a format's streams in other domains: made, trimmed as the hub is, made anew where they are dead.

A mirror goes on from the number of the last message that it has. So where the hub's stream was lost and begun anew, it
waits for messages that may never come, or puts those of the new stream behind those of the old one, and an edge that
must begin there can't. It is known by what it holds: under one number both have one message.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable
from typing import TypeVar

from keywright.nats.connection import BrokerRefused, BrokerUnavailable, Connection, StreamMissing
from keywright.nats.streams import Bounds, Streams
from keywright.nats.subjects import Subjects

log = logging.getLogger("keywright.origin")

_T = TypeVar("_T")
BEHIND_SECONDS = 5.0
"""So long without a new message, while the hub has some, is worth telling."""
STALLED_SECONDS = 30.0
"""And so long is for ever: the mirror is made anew."""


class Mirrors:
    """One for each connection to the broker. `sync` is called again and again."""

    def __init__(self, connection: Connection, subjects: Subjects, hub: Streams, problems: dict[str, str]) -> None:
        """`problems` is kept up to date: what is wrong with the mirrors of a domain, by its name."""
        options = connection.options
        self._subjects = subjects
        self._streams = (subjects.changes_stream, subjects.snapshots_stream)
        self._hub = hub
        self._hub_domain = options.domain
        self._domains = {domain: Streams(connection, domain) for domain in options.mirrors}
        self._problems = problems
        self._checked: set[tuple[str, str, str, str]] = set()
        """Mirrors that were seen to hold what the hub holds: domain, stream, and when each of the two was made."""
        self._clock = connection.clock
        self._stalled: dict[tuple[str, str], tuple[int, float]] = {}
        """Where a mirror that is behind was first seen to be, and when."""

    async def sync(self) -> None:
        """Look at each mirror once. Raises BrokerUnavailable, BrokerRefused only for the hub."""
        for domain, mirror in self._domains.items():
            behind = []
            try:
                for stream in self._streams:
                    if not await self._sync_stream(domain, mirror, stream):
                        behind.append(stream)
            except (_MirrorAway, BrokerRefused) as error:
                self._note(domain, f"can't be synced: {error}")
            else:
                self._note(domain, f"is behind: {', '.join(behind)}" if behind else None)

    async def delete(self) -> None:
        """Take the mirrors away, where they can be reached."""
        for mirror in self._domains.values():
            for stream in self._streams:
                with contextlib.suppress(BrokerUnavailable, BrokerRefused):
                    await mirror.delete(stream)

    async def _sync_stream(self, domain: str, mirror: Streams, stream: str) -> bool:
        """Whether the mirror moves, or has everything."""
        try:
            # Before the hub's: what comes in between must not look like more than the hub has.
            theirs = await mirror.bounds(stream)
        except StreamMissing:
            await self._make(domain, mirror, stream)
            return True
        except BrokerUnavailable as error:
            raise _MirrorAway(str(error)) from error
        ours = await self._hub.bounds(stream)
        if not await self._is_copy(domain, mirror, stream, theirs, ours):
            await self._make_anew(domain, mirror, stream, "holds messages of a stream that is gone")
            return True
        if theirs.first < ours.first:
            await self._at_mirror(mirror.purge(stream, ours.first))
        return await self._moves(domain, mirror, stream, theirs, ours)

    async def _is_copy(self, domain: str, mirror: Streams, stream: str, theirs: Bounds, ours: Bounds) -> bool:
        if theirs.last > ours.last:
            return False
        pair = (domain, stream, theirs.created, ours.created)
        first = max(theirs.first, ours.first)
        if pair in self._checked or first > theirs.last:
            return True
        for seq in {first, theirs.last}:
            original = await self._hub.find(stream, seq)
            copy = await self._at_mirror(mirror.find(stream, seq))
            if original is not None and copy is not None and original.data != copy.data:
                return False
        self._checked.add(pair)
        return True

    async def _moves(self, domain: str, mirror: Streams, stream: str, theirs: Bounds, ours: Bounds) -> bool:
        if theirs.last >= ours.last:
            self._stalled.pop((domain, stream), None)
            return True
        now = self._clock.elapsed()
        was_at, since = self._stalled.get((domain, stream), (theirs.last, now))
        if was_at != theirs.last:
            since = now
        self._stalled[domain, stream] = theirs.last, since
        if now - since >= STALLED_SECONDS:
            await self._make_anew(domain, mirror, stream, "has stopped")
            return True
        return now - since < BEHIND_SECONDS

    async def _make_anew(self, domain: str, mirror: Streams, stream: str, why: str) -> None:
        log.warning("the mirror of %s in the domain %s %s: it is made anew", stream, domain, why)
        self._stalled.pop((domain, stream), None)
        await self._at_mirror(mirror.delete(stream))
        await self._make(domain, mirror, stream)

    async def _make(self, domain: str, mirror: Streams, stream: str) -> None:
        await self._at_mirror(mirror.create_mirror(stream, self._hub_domain, self._subjects.mirror_deliveries(domain)))

    async def _at_mirror(self, asked: Awaitable[_T]) -> _T:
        try:
            return await asked
        except BrokerUnavailable as error:
            raise _MirrorAway(str(error)) from error

    def _note(self, domain: str, problem: str | None) -> None:
        if problem is None:
            if self._problems.pop(domain, None) is not None:
                log.info("the mirrors in the domain %s are in step again", domain)
            return
        if domain not in self._problems:
            log.warning("the mirrors in the domain %s: %s", domain, problem)
        self._problems[domain] = problem


class _MirrorAway(Exception):
    """What a mirror's domain could not be asked."""
