"""Owns /livez and /readyz: whether the process answers, and whether keys can be judged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from keywright.domain import models
from keywright.edge.http.document import JSON, send_document
from keywright.edge.http.endpoint import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.mirror import MirrorStatus
    from keywright.edge.replica.origin_clock import OriginClock


class SyncStatus(Protocol):
    """How far the replica is; a SyncLoop has it."""

    @property
    def is_synced(self) -> bool: ...
    @property
    def revision(self) -> int | None: ...
    @property
    def lag_seconds(self) -> float: ...
    @property
    def since(self) -> datetime: ...
    @property
    def is_refusing(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def is_format_unknown(self) -> bool: ...
    @property
    def mirror(self) -> MirrorStatus | None: ...


class Health:
    """`livez` and `readyz` are each ASGI for the path of that name."""

    def __init__(self, status: SyncStatus, origin_clock: OriginClock | None = None) -> None:
        """Without a clock of the origin's it is this machine's own that counts."""
        self._status = status
        self._origin_clock = origin_clock
        self._facts: dict[str, object] = {}
        self._warners: list[Callable[[], list[str]]] = [] if origin_clock is None else [origin_clock.list_warnings]

    def tell(self, name: str, value: object) -> None:
        """Tell this in /readyz, too."""
        self._facts[name] = value

    def warn_of(self, list_warnings: Callable[[], list[str]]) -> None:
        """Tell in /readyz what this lists, too: what an operator should know beside that, in sentences."""
        self._warners.append(list_warnings)

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 as long as the event loop turns."""
        await send_document(scope, send, 200, JSON, b'{"alive":true}')

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 when keys can be judged, in step with the record or not; 503 before the first snapshot,
        and when the edge was out of step, or unheard, for as long as it promised to answer.
        """
        status = self._status
        revision, lag = status.revision, status.lag_seconds
        is_ready = revision is not None and not status.is_refusing
        told: dict[str, object] = {
            "ready": is_ready,
            "synced": status.is_synced,
            "revision": revision,
            "lag_seconds": round(lag, 3) if math.isfinite(lag) else None,
            "since": models.to_iso(status.since),
            **self._facts,
        }
        if self._origin_clock is not None:
            offset, error = self._origin_clock.offset_seconds, self._origin_clock.error_seconds
            told["clock_offset_seconds"] = None if offset is None else round(offset, 3)
            told["clock_error_seconds"] = None if error is None else round(error, 3)
        if status.reason is not None:
            told["reason"] = status.reason
        if status.is_format_unknown:
            told["format_unknown"] = True
        if status.mirror is not None:
            told["haproxy"] = _told_of(status.mirror)
        warnings = [warning for list_warnings in self._warners for warning in list_warnings()]
        if warnings:
            told["warnings"] = warnings
        await send_document(scope, send, 200 if is_ready else 503, JSON, encode_json(told))


def _told_of(mirror: MirrorStatus) -> dict[str, object]:
    told: dict[str, object] = {
        "synced": mirror.is_synced,
        "answering": mirror.is_believed,
        "revision": mirror.revision,
        "lag_seconds": round(mirror.lag_seconds, 3) if math.isfinite(mirror.lag_seconds) else None,
        "pending_entries": mirror.pending,
        "blocked_consumers": mirror.blocked,
    }
    if mirror.reason is not None:
        told["reason"] = mirror.reason
    return told
