"""The dashboard: Grafana's own library knows all that is in it, and Prometheus can answer all that it asks."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboard import DASHBOARD, PANELS


def read_by_grafana(dashboard: dict[str, Any]) -> Any:
    """What is left of a dashboard when it was read into Grafana's types, and written again."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def list_lost(given: Any, read: Any, place: str = "") -> Iterator[str]:
    """Where something of what was given was not read, or as something else."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            yield from list_lost(value, read.get(name), f"{place}.{name}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from list_lost(one, other, f"{place}[{number}]")
    elif given != read:
        yield place


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    assert list(list_lost(DASHBOARD, read_by_grafana(DASHBOARD))) == []


@pytest.mark.parametrize(
    "place", [("graphToolTip",), ("panels", 1, "gridPosition"), ("panels", 1, "targets", 0, "expression")], ids=str
)
def test_a_field_that_grafana_does_not_know_is_found(place: tuple[Any, ...]) -> None:
    broken = copy.deepcopy(DASHBOARD)
    inner: Any = broken
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = 1
    assert list(list_lost(broken, read_by_grafana(broken))) != []


def test_panels_have_titles_and_units_of_their_own_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {f"${one['name']}" for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\w+", json.dumps(DASHBOARD).replace("${datasource}", "$datasource")))
    assert used <= variables | {"$__rate_interval", "$__all"}
