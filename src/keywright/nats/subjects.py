"""Owns what is kept at a broker under which names, and what a frame there must be made for.

Two streams hold the feed of a format. `PREFIX-changes` has the changes in order; each message is put there only behind
the one that its writer read last, so it makes no difference how many write. `PREFIX-snapshots` has snapshots: pages,
then an end, unbroken, because these messages, too, are put behind one another or not at all. Those of format 2 have
these names, as in the first release; those of a later one end in its number. Heartbeats and reports are published and
not kept. What messages mean is known in origin/feed/nats_publisher.py and edge/sync/nats_feed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keywright.protocol.feed_formats import OLDEST, scope_in
from keywright.protocol.frames import Frame, FrameError, FrameSigner, FrameSplitter

if TYPE_CHECKING:
    from keywright.nats.connection import Message

EVERYTHING = "everything"
"""The scope of every frame of format 2 at a broker."""
# A frame at a broker answers no request; its nonce says what it is for. A request's nonce never has a colon.
FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT = "broker:changes", "broker:heartbeat", "broker:snapshot:"


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one deployment's streams and subjects for one format of the feed."""

    prefix: str
    feed_format: int = OLDEST

    def in_format(self, feed_format: int) -> Subjects:
        return replace(self, feed_format=feed_format)

    @property
    def scope(self) -> str:
        """Of every frame there."""
        return scope_in(EVERYTHING, self.feed_format)

    @property
    def changes_stream(self) -> str:
        return self._ending(f"{self.prefix}-changes", "-")

    @property
    def snapshots_stream(self) -> str:
        return self._ending(f"{self.prefix}-snapshots", "-")

    @property
    def changes(self) -> str:
        return self._ending(f"{self.prefix}.changes", ".")

    @property
    def snapshot_pages(self) -> str:
        return self._ending(f"{self.prefix}.snapshots.page", ".")

    @property
    def snapshot_ends(self) -> str:
        return self._ending(f"{self.prefix}.snapshots.end", ".")

    @property
    def heartbeats(self) -> str:
        return self._ending(f"{self.prefix}.heartbeat", ".")

    def mirror_deliveries(self, domain: str) -> str:
        """What the subjects begin with on which the mirrors in a domain, and no others, are filled."""
        return f"{self.prefix}.mirror.{domain}"

    @property
    def reports(self) -> str:
        """The same for every format: reports have formats of their own."""
        return f"{self.prefix}.reports"

    @property
    def shares(self) -> str:
        """Where edges ask for their shares of global rate limits: the same for every format, too."""
        return f"{self.prefix}.shares"

    @property
    def leases(self) -> str:
        """Where edges ask for quotas: the same for every format, too."""
        return f"{self.prefix}.leases"

    @property
    def usage(self) -> str:
        """Below it each edge has a subject of its own, where its usage goes: the same for every format, too."""
        return f"{self.prefix}.usage"

    def usage_of(self, edge_name: str) -> str:
        return f"{self.usage}.{part_of(edge_name)}"

    def _ending(self, name: str, joint: str) -> str:
        return name if self.feed_format == OLDEST else f"{name}{joint}{self.feed_format}"


def part_of(edge_name: str) -> str:
    """The edge's part of its own subject: a dot would make two parts of it, so it is an underscore."""
    return edge_name.replace(".", "_")


def frame_in(message: Message, signer: FrameSigner, purpose: str, scope: str = EVERYTHING) -> Frame:
    """The one frame that a message is, made for what its subject is for. Raises FrameError."""
    splitter = FrameSplitter()
    frames = list(splitter.feed(message.data))
    if len(frames) != 1 or not splitter.is_empty:
        raise FrameError("the message is not one frame")
    frame = signer.decode(frames[0])
    if not frame.nonce.startswith(purpose) or frame.scope != scope:
        raise FrameError("the frame was made for something else")
    return frame
