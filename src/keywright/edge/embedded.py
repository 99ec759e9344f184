"""Owns the embedded replica: an application's own process keeps a replica and follows the record. No hop at all.

It is an edge without doors. Several processes on one directory (the workers of a server) share its files, and one of
them follows for all, as the workers of `keywright edge` do (election.py). Following happens on a thread with an event
loop of its own, so that it is the same for ASGI and WSGI, and no application's loop waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

from keywright.core.keyformat import Secret
from keywright.edge.election import Member
from keywright.edge.feeds import Feed
from keywright.edge.http_feed import HttpFeed
from keywright.edge.replica import Replica
from keywright.edge.source import READY_SECONDS, ReplicaSource
from keywright.edge.sync import Follower
from keywright.edge.validator import now_millis

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from keywright.core.keyformat import Digester

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


class OpenFeed(Feed, Protocol):
    """A feed that holds a connection."""

    async def close(self) -> None: ...


class EmbeddedReplica(ReplicaSource):
    """A source for a policy, kept in `directory` (one of its own: not that of a `keywright edge`)."""

    def __init__(
        self,
        directory: str | Path,
        new_feed: Callable[[Digester], OpenFeed],
        *,
        pepper: str | None = None,
        pepper_file: str | Path | None = None,
        ready_seconds: float = READY_SECONDS,
        clock: Callable[[], int] = now_millis,
    ) -> None:
        """`new_feed` is called in the thread that follows. The pepper is the origin's, `pepper.key` in the directory
        unless it is said where else. Raises KeyFileError."""
        super().__init__(directory, pepper=pepper, pepper_file=pepper_file, ready_seconds=ready_seconds, clock=clock)
        self._new_feed = new_feed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._member: Member | None = None

    @classmethod
    def from_origin(
        cls,
        origin: str,
        *,
        token: str,
        directory: str | Path,
        pepper: str | None = None,
        pepper_file: str | Path | None = None,
        ready_seconds: float = READY_SECONDS,
        name: str | None = None,
    ) -> EmbeddedReplica:
        """Follows the origin at this address over HTTP. `token` is a management key with `feed: true`.

        Raises KeyFileError, ValueError.
        """
        if not origin.startswith(("https://", "http://")) or "@" in origin:
            raise ValueError("the origin is an address, such as https://keys.internal")
        secret, edge_name = Secret(token), name or socket.gethostname()

        def new_feed(digester: Digester) -> OpenFeed:
            return HttpFeed(origin, secret, digester, edge_name=edge_name)

        return cls(directory, new_feed, pepper=pepper, pepper_file=pepper_file, ready_seconds=ready_seconds)

    @property
    def is_synced(self) -> bool:
        """Whether the replica has everything that the record has, as far as is known."""
        member = self._member
        return member is not None and member.is_synced

    @property
    def lag_seconds(self) -> float | None:
        """How long ago that was so; None before this process has opened the replica."""
        member = self._member
        return None if member is None else member.lag_seconds

    @property
    def reason(self) -> str | None:
        """Why the replica is not in step, if it isn't and that is known."""
        member = self._member
        return None if member is None else member.reason

    def _open_replica(self, guard: threading.Lock) -> Replica:
        return Replica.open_or_replace(self.replica_directory, self._digester.pepper_check(), guard=guard)

    def _keep(self, replica: Replica) -> None:
        asyncio.run(self._follow(replica))

    async def _follow(self, replica: Replica) -> None:
        stop = self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            stop.set()
        feed = self._new_feed(self._digester)

        def new_follower() -> Follower:
            return Follower(
                replica, feed, poll_seconds=FIRST_PAUSE_SECONDS, longest_pause_seconds=LONGEST_PAUSE_SECONDS
            )

        self._member = Member(replica, self.replica_directory / "standing.json", new_follower)
        try:
            await self._member.run(stop)
        finally:
            self._loop = self._member = None
            await feed.close()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            # A loop that has ended meanwhile needs no waking.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop.set)
