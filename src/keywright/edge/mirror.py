"""Owns what is asked of a mirror: of whoever keeps a copy of the replica elsewhere, by which keys are judged there."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.protocol.changes import Cursor


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How a mirror is doing. `revision` is what it holds, None while that is not known."""

    is_synced: bool
    revision: int | None
    lag_seconds: float
    """How long ago it last held all that the replica held."""
    pending: int
    """Entries that it lacks."""
    blocked: int
    """Consumers (or whole buckets) that get no answer there until it has them."""
    is_believed: bool
    """Whether it answers at all."""
    reason: str | None = None

    @classmethod
    def unknown(cls, reason: str) -> MirrorStatus:
        return cls(
            is_synced=False,
            revision=None,
            lag_seconds=math.inf,
            pending=0,
            blocked=0,
            is_believed=False,
            reason=reason,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> MirrorStatus:
        """Raises ValueError, LookupError, TypeError for what `to_json` has not made."""
        return cls(**told)


class Mirror(Protocol):
    """A mirror, as the process that follows the record sees it."""

    on_change: Callable[[], None]
    """Called, on the event loop's thread, when `reached` may be another."""

    def reached(self, cursor: Cursor | None) -> Cursor | None:
        """How far the edge is whose replica is at `cursor`, and its mirror with it. None: that is not known."""
        ...

    def status(self) -> MirrorStatus: ...
