"""Keys in bulk take as many statements as one key takes, on both engines, and come back in the order of the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from support.service import Service


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is executed while the test runs."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


async def test_keys_in_bulk_are_one_insert_and_keep_their_order(service: Service, statements: list[str]) -> None:
    keys = f"{service.consumers_url}/{(await service.new_consumer())['name']}/keys"
    wanted = [f"key {number}" for number in range(300)]
    statements.clear()
    made = await service.call("POST", f"{keys}/$bulk", json=[{"description": text} for text in wanted])
    assert [key["description"] for key in made["data"]] == wanted
    assert sum(statement.startswith("INSERT INTO keys") for statement in statements) == 1
    listed = await service.call("GET", f"{keys}?limit=1000")
    assert [key["id"] for key in listed["data"]] == [key["id"] for key in reversed(made["data"])]
