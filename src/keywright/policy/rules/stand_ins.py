"""Owns the source that stands in for all others while an application is tested: see keywright.policy.testing."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keywright.policy.rules.gate import Gate
    from keywright.policy.rules.sources import Source

current: Source | None = None
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def register(gate: Gate) -> None:
    _gates.add(gate)


@contextlib.contextmanager
def standing_in(source: Source) -> Iterator[None]:
    """Every policy of this process asks this source, and those that are made meanwhile do, too."""
    global current  # noqa: PLW0603
    before, current = current, source
    try:
        for gate in list(_gates):
            gate.use(source)
        yield
    finally:
        current = before
        for gate in list(_gates):
            gate.use(before)
