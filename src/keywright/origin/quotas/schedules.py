"""Owns when a quota begins anew, by the rules of time zones that this process has, and which edition of them that is.

Python reads the zones of the system, and where that has none those of the package tzdata.
"""

from __future__ import annotations

import importlib.metadata
import logging
from datetime import tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, ZoneInfoNotFoundError

from keywright.domain.limits import Period, Quota
from keywright.domain.periods import PeriodTimes, running_period

log = logging.getLogger("keywright.origin")

UNKNOWN_EDITION = "unknown"


class UnknownZone(Exception):
    """The rules of time zones here have none of that name: they are older than the quota, or newer."""


def schedule_of(quota: Quota) -> str:
    """What tells the periods of one quota from those that it had by another calendar: `month/Europe/Oslo/31`."""
    match quota.period:
        case Period.NONE:
            return quota.period.value
        case Period.MONTH:
            return f"{quota.period.value}/{quota.time_zone}/{quota.anchor}"
        case _:
            return f"{quota.period.value}/{quota.time_zone}"


def runs(times: PeriodTimes, now: int) -> bool:
    """Also one that has yet to begin: the database's clock was set back, and periods do not go back."""
    return times.ends_at is None or now < times.ends_at


def find_times(quota: Quota, newest: PeriodTimes | None, now: int) -> PeriodTimes | None:
    """When the period begins and ends that is to be opened `now` (milliseconds since the epoch).

    None if the `newest` one still runs, or no zone here has the quota's name. It never begins before the one before it
    has ended, whatever another edition of the time zones says of that.
    """
    if newest is not None and runs(newest, now):
        return None
    try:
        times = running_period(quota.period, _zone(quota.time_zone), quota.anchor, now)
    except UnknownZone as error:
        log.warning("quota %s: the time zones here (%s) have no %s", quota.name, edition(), error)
        return None
    if newest is None or newest.ends_at is None:
        return times
    return times._replace(begins_at=max(times.begins_at, newest.ends_at))


def edition() -> str:
    """Of the rules that are used here, such as `2026f`."""
    for folder in map(Path, TZPATH):
        # Debian and most others have the first, which opens with a comment; BSD and macOS the second.
        for name, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
            file = folder / name
            if file.is_file():
                with file.open(encoding="utf-8", errors="replace") as opened:
                    told = opened.readline(100)
                if told.startswith(prefix):
                    return told.removeprefix(prefix).strip()
        if (folder / "UTC").is_file():
            return UNKNOWN_EDITION
    try:
        return _edition_of_package(importlib.metadata.version("tzdata"))
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN_EDITION


@lru_cache(maxsize=1000)
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


def _edition_of_package(version: str) -> str:
    """`2026.6` is 2026f."""
    year, _, number = version.partition(".")
    first = number.partition(".")[0]
    return f"{year}{chr(ord('a') + int(first) - 1)}" if first.isdigit() and 1 <= int(first) <= 26 else version
