"""What tests that start `keywright serve` as a process leave behind is cleared away here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    """Only what the test itself opened: a service that many tests share keeps its own."""
    before = len(Api.opened)
    yield
    while len(Api.opened) > before:
        Api.opened.pop().close()
