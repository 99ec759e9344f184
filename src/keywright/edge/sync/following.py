"""Owns the choice of what an edge follows and reports to: its origin over HTTP, a broker, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.sync.feed import NoFeed
from keywright.edge.sync.http_feed import HttpFeed
from keywright.edge.sync.reporting import HttpReports, NoReports

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester, Secret
    from keywright.edge.sync.nats_feed import NatsFeed
    from keywright.edge.sync.nats_reports import NatsReports
    from keywright.runtime.clock import Clock
    from keywright.runtime.settings import EdgeSettings


def new_feed(settings: EdgeSettings, digester: Digester, clock: Clock) -> HttpFeed | NatsFeed | NoFeed:
    if settings.broker is not None:
        # Its client is loaded by those who use it.
        from keywright.edge.sync.nats_feed import NatsFeed

        return NatsFeed(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoFeed()
    return HttpFeed(settings.origin, _token(settings), digester, clock, edge_name=settings.name)


def new_reports(settings: EdgeSettings, digester: Digester, clock: Clock) -> HttpReports | NatsReports | NoReports:
    if settings.broker is not None:
        from keywright.edge.sync.nats_reports import NatsReports

        return NatsReports(settings.broker, digester, clock, edge_name=settings.name)
    if settings.origin is None:
        return NoReports()
    return HttpReports(settings.origin, _token(settings), digester, edge_name=settings.name)


def _token(settings: EdgeSettings) -> Secret:
    if settings.token is None:
        raise ValueError("neither a broker nor a token")
    return settings.token
