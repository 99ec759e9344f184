"""What tests that start `keywright serve` as a process leave behind is cleared away here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    yield
    while Api.opened:
        Api.opened.pop().close()
