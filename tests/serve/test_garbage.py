"""A start is not slowed down by looking for garbage, and a worker that has started does look."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from keywright.runtime import server


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


async def live_through() -> list[bool]:
    """The life of a worker: whether garbage is collected while it starts, and when it stops."""
    collecting = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "lifespan.shutdown" if collecting else "lifespan.startup"}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert message["type"].endswith(".complete")

    async def note() -> None:
        collecting.append(gc.isenabled())

    await server.asgi_lifespan(receive, send, start=note, stop=note, log=logging.getLogger("test"))
    return collecting


async def test_a_worker_collects_from_its_start_on() -> None:
    server.defer_gc()
    assert await live_through() == [False, True]
    assert gc.get_freeze_count() > 0


async def test_where_nobody_said_later_nothing_is_set_aside() -> None:
    assert await live_through() == [True, True]
    assert gc.get_freeze_count() == 0
