"""What follows a feed into a replica, as `keywright edge` does, with short pauses where a test wants them."""

from __future__ import annotations

import random

from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.feed import Feed
from keywright.edge.sync.loop import LONGEST_PAUSE_SECONDS, POLL_SECONDS, SyncLoop
from keywright.runtime.backoff import Backoff
from keywright.runtime.clock import Clock


def new_sync_loop(
    replica: Replica,
    feed: Feed,
    *,
    clock: Clock | None = None,
    sync_clock: SyncClock | None = None,
    poll_seconds: float = POLL_SECONDS,
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
) -> SyncLoop:
    clock = clock or Clock()
    return SyncLoop(
        replica,
        feed,
        clock,
        sync_clock or SyncClock(None, clock),
        Backoff(poll_seconds, longest_pause_seconds, random.uniform),
        poll_seconds=lambda: poll_seconds,
    )
