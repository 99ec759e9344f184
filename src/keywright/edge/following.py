"""Owns the choice of what an edge follows: its origin over HTTP, or a broker that the origin relays to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.http_feed import HttpFeed

if TYPE_CHECKING:
    from keywright.core.keyformat import Digester
    from keywright.edge.nats_feed import NatsFeed
    from keywright.settings import EdgeSettings


def new_feed(settings: EdgeSettings, digester: Digester) -> HttpFeed | NatsFeed:
    if settings.broker is not None:
        # Its client is loaded by those who use it.
        from keywright.edge.nats_feed import NatsFeed

        return NatsFeed(settings.broker, digester, edge_name=settings.name)
    if settings.token is None:
        raise ValueError("neither a broker nor a token")
    return HttpFeed(settings.origin, settings.token, digester, edge_name=settings.name)
