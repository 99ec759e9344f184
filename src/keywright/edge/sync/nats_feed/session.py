"""Owns an edge's connection to the broker: made when it is needed, given up after a failure, asked domain by domain."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from keywright.edge.sync.feed import OtherPepper, Refused, untrusted
from keywright.nats.connection import BrokerRefused, BrokerUnavailable, Connection, Message, connect
from keywright.nats.streams import Streams
from keywright.nats.subjects import Subjects, frame_in
from keywright.protocol.feed_formats import NEWEST
from keywright.protocol.frames import FormatUnknown, Frame, FrameError, FrameSigner

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

_log = logging.getLogger("keywright.edge")

_T = TypeVar("_T")


class NatsSession:
    """At most one connection at a time, subscribed to the origin's heartbeats; and the streams of each domain.

    `subjects` are those of the format that is followed. The heartbeats of others that were followed before, on the same
    connection, are still heard.
    """

    def __init__(
        self,
        options: NatsOptions,
        digester: Digester,
        clock: Clock,
        edge_name: str,
        *,
        on_heartbeat: Callable[[Message, int], None],
        on_change: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_heartbeat` is told of which format a heartbeat is."""
        self.subjects = Subjects(options.prefix, NEWEST)
        self.domains: list[Streams] = []
        """Of the hub, then of its mirrors."""
        self._options = options
        self._signer = FrameSigner(digester)
        self._pepper_check = digester.pepper_check()
        self._clock = clock
        self._edge_name = edge_name
        self._on_heartbeat = on_heartbeat
        self._on_change = on_change
        self._on_lost = on_lost
        self._connection: Connection | None = None
        self._heard: dict[int, bool] = {}
        """Formats whose heartbeats are subscribed to, and whether their changes are, too."""
        self._skipped: dict[str, str] = {}
        self.is_format_unknown = False
        """Whether something was passed over because this version does not read its format."""

    async def open(self) -> None:
        """Connects, unless it is connected, and hears the heartbeats and the changes of the format that is followed.

        Raises BrokerUnavailable, BrokerRefused.
        """
        connection, feed_format = self._connection, self.subjects.feed_format
        if connection is None:
            name = f"edge {self._edge_name}"
            connection = self._connection = await connect(self._options, name, self._clock, self._lost)
            self.domains = [Streams(connection, domain) for domain in (self._options.domain, *self._options.mirrors)]
            self._heard.clear()
        if feed_format not in self._heard:
            await connection.subscribe(
                self.subjects.heartbeats, lambda message: self._on_heartbeat(message, feed_format)
            )
            # What is read is read from the stream, where it has its place; this only tells when.
            is_told = await connection.try_to_subscribe(self.subjects.changes, lambda _: self._on_change())
            self._heard[feed_format] = is_told

    @property
    def hears_changes(self) -> bool:
        """Whether `on_change` is called when the hub may have more changes: the broker may not let us hear that."""
        return self._heard.get(self.subjects.feed_format, False)

    @property
    def has_complaints(self) -> bool:
        return self._connection is not None and self._connection.has_complaints

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._skipped.clear()
        self.is_format_unknown = False
        if connection is not None:
            await connection.close()

    async def first(self, ask: Callable[[Streams], Awaitable[_T]]) -> _T:
        """The answer of the first domain that gives one; if none does, what the first one's failure was."""
        failure: Exception | None = None
        for streams in self.domains:
            try:
                answer = await ask(streams)
            except (BrokerUnavailable, BrokerRefused) as error:
                failure = failure or error
            else:
                return answer
        raise failure or BrokerUnavailable("no domain to ask")

    def frame_in(self, message: Message, purpose: str, feed_format: int | None = None) -> Frame:
        """The frame that a message is, of this format or of that which is followed. Raises OtherPepper, FrameError."""
        if message.pepper_check not in (None, self._pepper_check):
            raise OtherPepper("the pepper of this edge is not the origin's: no key would be known. Give it that one")
        subjects = self.subjects if feed_format is None else self.subjects.in_format(feed_format)
        try:
            return frame_in(message, self._signer, purpose, subjects.scope)
        except FormatUnknown:
            self.is_format_unknown = True
            raise

    def find_frame(self, message: Message, purpose: str, feed_format: int | None = None) -> Frame | None:
        """The frame that a message is; None, with one line in the log for each connection, where it is none."""
        try:
            return self.frame_in(message, purpose, feed_format)
        except (FrameError, OtherPepper) as error:
            self.note_skipped(purpose, str(error))
            return None

    def note_skipped(self, purpose: str, why: str) -> None:
        """Say once for each connection that what is at the broker for a purpose can't be used, and isn't."""
        if purpose not in self._skipped:
            self._skipped[purpose] = why
            _log.warning("skipped what is no message of this deployment's origin (%s): %s", purpose, why)

    @property
    def passed_over(self) -> str:
        """What could not be used since the connection was made, as the end of a sentence; "" if all could."""
        return "".join(f"; passed over ({purpose}): {why}" for purpose, why in self._skipped.items())

    def _lost(self) -> None:
        # One that was given up here ends, too, and that is no news.
        if self._connection is not None:
            self._on_lost()


@contextmanager
def translated() -> Iterator[None]:
    """Turns a failure at the broker into what it means for who follows the record: Refused, Untrusted."""
    try:
        yield
    except BrokerRefused as error:
        raise Refused(str(error)) from error
    except FrameError as error:
        raise untrusted(error) from error
