"""Owns how addresses of keys and consumers are asked for what nobody uses, and say up to when that is known."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from keywright.domain.models import to_iso
from keywright.origin.openapi.fields import MomentInput

UNUSED_DAYS = 90
"""After how many days without use pages tell of a key."""
KNOWN_UNTIL = "Keywright-Usage-Known-Until"
"""Beside `lastUsedOn`: what lies after it, an edge may have to tell still."""

UnusedSince = Annotated[
    MomentInput | None,
    Query(
        alias="unused-since",
        description="Only what was made before this moment and has not been found `VALID` since, as far as edges have "
        f"told: `{KNOWN_UNTIL}` says how far that is.",
    ),
]


def tell_known_until(response: Response, known_until: datetime | None) -> None:
    """Beside `lastUsedOn`. Nothing is told while an edge has not said how far it is."""
    if known_until is not None:
        response.headers[KNOWN_UNTIL] = to_iso(known_until)
