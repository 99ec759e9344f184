"""Owns how a process takes part in an edge: it follows the record when it is its turn, and then speaks for the edge.

The same for a worker of `keywright edge` (standalone.py) and for an application's own process (embedded.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.sync.feed import RingingFeed
from keywright.edge.sync.leader_election import Member
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.reporting import Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.edge.identity import Identity
    from keywright.edge.replica.freshness import SyncClock
    from keywright.edge.replica.replica import Replica
    from keywright.edge.sync.feed import Feed
    from keywright.edge.sync.reporting import Reports
    from keywright.protocol.reports import Report
    from keywright.runtime.clock import Clock

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


def new_member(
    replica: Replica,
    replica_dir: Path,
    feed: Feed,
    clock: Clock,
    sync_clock: SyncClock,
    identity: Identity,
    reports: Reports | None,
) -> Member:
    """A member that follows this feed. Without reports nobody hears of the edge, and no write waits for it."""

    def new_follower() -> SyncLoop:
        sync_loop = SyncLoop(
            replica,
            feed,
            clock,
            sync_clock,
            on_news=(lambda: None) if reporter is None else reporter.ring,
            poll_seconds=FIRST_PAUSE_SECONDS,
            longest_pause_seconds=LONGEST_PAUSE_SECONDS,
        )
        if isinstance(feed, RingingFeed):
            feed.ring = sync_loop.ring
        return sync_loop

    def new_report() -> Report:
        # Behind the deployment stands what the token may see of it.
        deployment_id = (replica.deployment_id or "none").partition("/")[0]
        return identity.report(
            deployment_id,
            cursor=member.cursor,
            is_synced=member.is_synced,
            since=member.since,
            lag_seconds=member.lag_seconds,
        )

    reporter = None if reports is None else Reporter(reports, new_report)
    member = Member(
        replica,
        replica_dir / "standing.json",
        new_follower,
        clock,
        sync_clock,
        report=None if reporter is None else reporter.run,
    )
    return member
