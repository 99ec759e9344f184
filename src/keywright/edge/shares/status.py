"""Owns how it is going with an edge's shares, as the process that asks for them notes it for all others."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.protocol.shares import WHOLE

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "shares.json"
"""Beside a replica."""


@dataclass(frozen=True, slots=True)
class SharesStatus:
    """How it is going, as the process that follows noted it. `age_seconds` is since the latest answer was asked for."""

    limits: int
    edges: int
    fallback: float
    """Its part of each limit of which it was told no other share: one of those edges, in the end."""
    age_seconds: float

    @classmethod
    def read(cls, path: Path, now: float, boot_id: str | None) -> SharesStatus | None:
        """None where this machine, since it started, has had no answer."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            noted = json.loads(path.read_text())
            if noted["boot"] == boot_id:
                return cls(
                    int(noted["limits"]),
                    int(noted["edges"]),
                    int(noted["fallback"]) / WHOLE,
                    max(now - float(noted["asked_at"]), 0.0),
                )
        return None
