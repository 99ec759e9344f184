"""Following the record over a NATS broker, and making sure that what the broker gives is the record's.

The broker is trusted with nothing. What it gives must carry the origin's MAC (frames.py) and lead on from the very
cursor that this edge is at; a snapshot must be whole, and no older than what the edge has. So whoever holds the broker
can only withhold, and that shows: the edge is in step only while it hears the origin's heartbeats, which are recent by
this machine's own clock, and only as of the time in the newest frame that says where the record was.

Of several domains the first that answers is read from: the hub, and when that is cut off, the mirror in this region.
A snapshot, which is large, is read from the mirror if that has one as new.
"""

from keywright.edge.sync.nats_feed.live_feed import NatsFeed, NotKnownToBeAll

__all__ = ["NatsFeed", "NotKnownToBeAll"]
