"""Owns usage as pages show it: thirty days as a graph, and as a spark line beside each key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime

from keywright.origin.usage.rules import Asked, By, Group, Interval, Usage
from keywright.origin.web import graphs
from keywright.origin.web.graphs import Graph

DAYS = 30
BY_VERDICT = Asked(by=By.VERDICT, interval=Interval.DAY)
BY_KEY = Asked(by=By.KEY, interval=Interval.DAY)
BY_ADDRESS = Asked(by=By.ADDRESS)
TOP_CONSUMERS = Asked(by=By.CONSUMER)


def graph_of(usage: Usage, now: datetime) -> Graph:
    """Of the last thirty days, all together."""
    return graphs.draw(_daily(usage.groups), now, DAYS)


def sparks_of(usage: Usage, now: datetime) -> dict[str, Graph]:
    """Of each key that was used in them, by its id."""
    return {group.id: graphs.spark(_daily([group]), now, DAYS) for group in usage.groups}


def _daily(groups: Iterable[Group]) -> dict[date, dict[str, int]]:
    daily: dict[date, dict[str, int]] = {}
    for group in groups:
        for step in group.steps:
            counts = daily.setdefault(step.start.date(), {})
            for verdict, total in step.verdicts.items():
                counts[verdict] = counts.get(verdict, 0) + total
    return daily
