"""Rules of telling from where keys were used: the most frequent networks of each key and day, how many there were."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.usage.addresses import store as rows
from keywright.origin.usage.addresses.days import SHOWN
from keywright.origin.usage.addresses.sketch import Sketch
from keywright.origin.usage.counts import HOURS_OF_DAY
from keywright.origin.usage.series_store import Cells, Hours


@dataclass(slots=True)
class Networks:
    """`cells` are counts by network, step and verdict; `seen` when the first and the last was at each, in milliseconds;
    `distinct` is about how many different ones there were, also of those that are not told.
    """

    cells: Cells = field(default_factory=dict)
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    distinct: int = 0


def whole_days(hours: Hours) -> Hours:
    """The range in whole days (UTC): addresses are kept by day alone."""
    first = hours.first // HOURS_OF_DAY * HOURS_OF_DAY
    end = -(-hours.end // HOURS_OF_DAY) * HOURS_OF_DAY
    return Hours(first, end, False, HOURS_OF_DAY if hours.step == HOURS_OF_DAY else end - first)


async def networks_of(work: UnitOfWork, key_numbers: Collection[int], hours: Hours) -> Networks:
    """Of these keys together; the range is in whole days."""
    found, sketch = Networks(), Sketch()
    days = await rows.list_days(work.tx, key_numbers, hours.first // HOURS_OF_DAY, hours.end // HOURS_OF_DAY)
    for at, day in days:
        sketch.merge(day.sketch)
        hour = at * HOURS_OF_DAY
        step = hour - (hour - hours.first) % hours.step
        for network, count in day.most_frequent(SHOWN).items():
            first, last = found.seen.get(network, (count.first, count.last))
            found.seen[network] = min(first, count.first), max(last, count.last)
            for verdict, total in count.verdicts.items():
                cell = (network, step, verdict)
                found.cells[cell] = found.cells.get(cell, 0) + total
    found.distinct = sketch.estimate()
    return found
