"""Owns counting the requests that the origin answers, by the route's template and the status, and how long they take.

A template, such as /v1/accounts/{accountName}, never the address itself: there are as many as there are routes. What
has no route is told together, and so is a method that nobody answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.runtime.metrics.families import Family
from keywright.runtime.metrics.histogram import DISK_SECONDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from keywright.runtime.metrics.worker_counts import Counts

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "_other"

REQUESTS = Family(
    "keywright_management_requests",
    "Requests to the APIs, the portals and the feed, by the template of the route; _other has none.",
    ("method", "route", "status"),
)
SECONDS = Family(
    "keywright_management_request_duration_seconds",
    "From such a request's arrival to the beginning of the answer, the wait for edges that ?wait asks for included.",
    ("method",),
    DISK_SECONDS,
)


class RequestCounts:
    """A source of metrics. From the event loop's thread, but for `count`."""

    families = (REQUESTS, SECONDS)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._latency = {method: Histogram(DISK_SECONDS) for method in (*METHODS, OTHER)}

    def note(self, method: str, template: str | None, status: int, began_ns: int) -> None:
        """An answer begins, to a request that came at `began_ns`; without a template it has no route."""
        told = method if method in self._latency else OTHER
        key = told, template or OTHER, str(status)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._latency[told].observe_since(began_ns)

    def count(self) -> Counts:
        counts: Counts = {(REQUESTS.name, *key): count for key, count in list(self._counts.items())}
        for method, latency in self._latency.items():
            counts |= SECONDS.of(latency, method)
        return counts

    def gauges(self) -> Iterable[Metric]:
        return ()
