"""Owns who an edge is: the name and region that it was given, and the instance that tells two edges of one name apart.

The instance is drawn once and kept in the data directory. The machine's name and the directory are mixed in, so that a
copied directory is another edge: taken for one, the copy that is ahead would hide the one that is behind.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from keywright import __version__
from keywright.domain.models import to_millis
from keywright.protocol.feed_formats import NEWEST as FEED_FORMAT
from keywright.protocol.reports import EdgeState, Report
from keywright.runtime import atomic_file

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from keywright.protocol.changes import Cursor

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Identity:
    """One for each process; `instance` is the same for all processes on one data directory."""

    name: str
    region: str
    instance: str
    start: str = field(default_factory=lambda: secrets.token_hex(8))
    _number: int = 0

    @classmethod
    def load(cls, data_dir: Path, *, name: str, region: str) -> Identity:
        """With the instance that is kept in this directory; it is drawn when there is none."""
        drawn = _load_or_draw(data_dir / "instance")
        place = f"{drawn}\n{socket.gethostname()}\n{data_dir.resolve()}"
        return cls(name, region, hashlib.sha256(place.encode()).hexdigest()[:32])

    def report(
        self,
        deployment_id: str,
        *,
        cursor: Cursor | None,
        is_synced: bool,
        since: datetime,
        lag_seconds: float,
        refuses_after_seconds: float | None = None,
        is_leased: bool = False,
        is_starting: bool | None = None,
        clock_offset_seconds: float | None = None,
        is_format_unknown: bool = False,
    ) -> Report:
        """What this edge says of itself now. Without a cursor it is starting, unless it says otherwise: that it can't
        tell how far it is.
        """
        self._number += 1
        state = EdgeState.SYNCED if is_synced else EdgeState.BEHIND
        return Report(
            deployment_id=deployment_id,
            instance=self.instance,
            start=self.start,
            number=self._number,
            name=self.name,
            region=self.region,
            version=__version__,
            state=EdgeState.STARTING if (cursor is None if is_starting is None else is_starting) else state,
            since=max(0, to_millis(since)),
            # An older version left no stamp: nobody can tell which history that is.
            cursor=cursor if cursor is not None and cursor.stamp else None,
            lag=int(lag_seconds * 1000) if math.isfinite(lag_seconds) else None,
            refuses_after=None if refuses_after_seconds is None else math.ceil(refuses_after_seconds * 1000),
            is_leased=is_leased and refuses_after_seconds is not None,
            clock_offset=None if clock_offset_seconds is None else round(clock_offset_seconds * 1000),
            feed_format=FEED_FORMAT,
            is_format_unknown=is_format_unknown,
        )

    def goodbye(self, deployment_id: str, since: datetime) -> Report:
        """That it has ended, and every process of it."""
        last = self.report(deployment_id, cursor=None, is_synced=False, since=since, lag_seconds=math.inf)
        return replace(last, state=EdgeState.GONE)


def _load_or_draw(path: Path) -> str:
    """Of several processes that start at once one draws, and all read that."""
    drawn = secrets.token_hex(16)
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.create(path, drawn.encode())
        return path.read_text().strip() or drawn
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("can't keep %s, so this edge is a new one at each start: %s", path, error)
        return drawn
