"""Owns how it is going with an edge's quotas, as the process that borrows notes it for all others."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "quotas.json"
"""Beside a replica."""


@dataclass(frozen=True, slots=True)
class QuotasStatus:
    """`held` units can be spent here yet, `reserved` are open. `failing_since` is when the origin did not answer for
    the first time since it last did (seconds of `Clock.elapsed`), None while it does.
    """

    leases: int = 0
    held: int = 0
    reserved: int = 0
    failing_since: float | None = None

    def to_json(self, boot_id: str | None) -> dict[str, Any]:
        return {"boot": boot_id, **asdict(self)}

    @classmethod
    def read(cls, path: Path, boot_id: str | None) -> QuotasStatus:
        """Nothing where nothing was noted since this machine started."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            noted = json.loads(path.read_text())
            if noted["boot"] == boot_id:
                since = noted["failing_since"]
                return cls(
                    int(noted["leases"]),
                    int(noted["held"]),
                    int(noted["reserved"]),
                    None if since is None else float(since),
                )
        return cls()
