"""Owns what is kept at a broker under which names, and what a frame there must be made for.

Two streams hold the feed. `PREFIX-changes` has the changes in order; each message is put there only behind the one
that its writer read last, so it makes no difference how many write. `PREFIX-snapshots` has snapshots: pages, then an
end, unbroken, because these messages, too, are put behind one another or not at all. Heartbeats and reports are
published and not kept. What messages mean is known in origin/feed/nats_publisher.py and edge/sync/nats_feed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.protocol.frames import Frame, FrameError, FrameSigner, FrameSplitter

if TYPE_CHECKING:
    from keywright.nats.connection import Message

EVERYTHING = "everything"
"""The scope of every frame at a broker."""
# A frame at a broker answers no request; its nonce says what it is for. A request's nonce never has a colon.
FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT = "broker:changes", "broker:heartbeat", "broker:snapshot:"


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one deployment's streams and subjects."""

    prefix: str

    @property
    def changes_stream(self) -> str:
        return f"{self.prefix}-changes"

    @property
    def snapshots_stream(self) -> str:
        return f"{self.prefix}-snapshots"

    @property
    def changes(self) -> str:
        return f"{self.prefix}.changes"

    @property
    def snapshot_pages(self) -> str:
        return f"{self.prefix}.snapshots.page"

    @property
    def snapshot_ends(self) -> str:
        return f"{self.prefix}.snapshots.end"

    @property
    def heartbeats(self) -> str:
        return f"{self.prefix}.heartbeat"

    def mirror_deliveries(self, domain: str) -> str:
        """What the subjects begin with on which the mirrors in a domain, and no others, are filled."""
        return f"{self.prefix}.mirror.{domain}"

    @property
    def reports(self) -> str:
        return f"{self.prefix}.reports"


def frame_in(message: Message, signer: FrameSigner, purpose: str) -> Frame:
    """The one frame that a message is, made for what its subject is for. Raises FrameError."""
    splitter = FrameSplitter()
    frames = list(splitter.feed(message.data))
    if len(frames) != 1 or not splitter.is_empty:
        raise FrameError("the message is not one frame")
    frame = signer.decode(frames[0])
    if not frame.nonce.startswith(purpose) or frame.scope != EVERYTHING:
        raise FrameError("the frame was made for something else")
    return frame
