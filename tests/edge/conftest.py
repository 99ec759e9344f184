from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge.world import PEPPER_CHECK
from keywright.edge.replica.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield opened
    opened.close()
