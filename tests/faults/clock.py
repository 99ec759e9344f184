"""A process whose clock is wrong: libfaketime, from its wheel or from Debian."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HOUR = 3600


def find_library() -> Path | None:
    candidates = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    spec = importlib.util.find_spec("libfaketime")
    for place in (spec.submodule_search_locations or []) if spec else []:
        candidates += Path(place).glob("vendor/libfaketime/src/libfaketime.so.1")
    return candidates[0] if candidates else None


def variables(offset: int) -> dict[str, str]:
    """What shifts the time of day of a process by so many seconds; time that only runs on is left alone."""
    library = find_library()
    assert library is not None
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{offset:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
