"""Owns graphs of counts: where the bars of a chart and of a spark line stand. Pure; templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

WIDTH, HEIGHT = 720, 160
SPARK_WIDTH, SPARK_HEIGHT = 90, 18
GOOD, LIMITED, BAD = "good", "limited", "bad"
KINDS = (GOOD, LIMITED, BAD)
"""What verdicts look like, from the bottom up: accepted; too often; refused for what they are."""
_LIMITED = frozenset({"RATE_LIMITED", "QUOTA_EXCEEDED"})

Daily = Mapping[date, Mapping[str, int]]
"""How often each verdict was given, by day (UTC)."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a day's bar, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True, slots=True)
class Column:
    """A day, with its bars and its counts by verdict."""

    day: date
    bars: Sequence[Bar]
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Graph:
    """Days in their order. `top` is what a bar of full height stands for; `verdicts` those that were given, most
    first.
    """

    columns: Sequence[Column]
    top: int
    width: int
    height: int
    verdicts: Sequence[str]

    @property
    def total(self) -> int:
        return sum(column.total for column in self.columns)

    @property
    def kinds(self) -> list[str]:
        """Those that are to be seen."""
        found = {kind_of(verdict) for verdict in self.verdicts}
        return [kind for kind in KINDS if kind in found]


def draw(daily: Daily, last: datetime, days: int, *, width: int = WIDTH, height: int = HEIGHT) -> Graph:
    """A graph of so many days, up to that of `last`."""
    end = last.date()
    each = [end - timedelta(days=back) for back in range(days - 1, -1, -1)]
    counts = [dict(daily.get(one, {})) for one in each]
    most = max((sum(one.values()) for one in counts), default=0)
    top, step = max(most, 1), width / days
    gap = min(2.0, step / 4)
    columns = []
    for place, (one, told) in enumerate(zip(each, counts, strict=True)):
        bars, y = [], float(height)
        for kind in KINDS:
            total = sum(count for verdict, count in told.items() if kind_of(verdict) == kind)
            # What there is is seen, however little it is beside the rest.
            size = max(total / top * height, 1.0) if total else 0.0
            if size:
                y = max(y - size, 0.0)
                bars.append(Bar(round(place * step, 1), round(y, 1), round(step - gap, 1), round(size, 1), kind))
        columns.append(Column(one, bars, told))
    sums: dict[str, int] = {}
    for told in counts:
        for verdict, count in told.items():
            sums[verdict] = sums.get(verdict, 0) + count
    return Graph(columns, top, width, height, sorted(sums, key=lambda verdict: (-sums[verdict], verdict)))


def spark(daily: Daily, last: datetime, days: int) -> Graph:
    """The same, as small as a word."""
    return draw(daily, last, days, width=SPARK_WIDTH, height=SPARK_HEIGHT)


def kind_of(verdict: str) -> str:
    if verdict == "VALID":
        return GOOD
    return LIMITED if verdict in _LIMITED else BAD
