"""The application as it is put together."""

from __future__ import annotations

from keywright.origin.app import NOUNS, create_app
from keywright.runtime.clock import Clock
from support.service import bare_services


def test_routes_are_made_once_and_no_second_time_by_the_application() -> None:
    """Each has its validators with it: to make them again took longer than all else that a first request needs."""
    app = create_app(bare_services(), Clock())

    answering = [id(route) for route in app.routes]
    of_nouns = [route for noun in NOUNS for route in noun.router.routes]
    assert len(of_nouns) > 40
    assert [route for route in of_nouns if id(route) not in answering] == []
