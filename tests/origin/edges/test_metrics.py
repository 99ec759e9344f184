"""What the origin tells of edges: how far behind each is, whoever heard of it, and never more names than so many."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from keywright.origin.edges import store as rows
from keywright.origin.edges.metrics import OTHER, EdgeSource
from keywright.origin.edges.scopes import HeldScopes
from keywright.origin.edges.store import Heard
from keywright.protocol.reports import EdgeState
from support.reports import report_of, tell

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from support.service import Service

ACCOUNT = "acct_of_the_tests"


def told(source: EdgeSource) -> dict[tuple[str, ...], float]:
    metrics: list[Metric] = list(source.gauges())
    return {(one.name, *one.labels.values()): one.value for metric in metrics for one in metric.samples}


def lags(source: EdgeSource) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in told(source).items() if key[0] == "keywright_edge_lag_seconds"}


def new_source(service: Service, clock: list[float], most: int = 500) -> EdgeSource:
    return EdgeSource(service.app._database, service.app._edges, most=most, monotonic=lambda: clock[0])


async def test_an_edge_is_told_by_name_and_region_with_what_it_lacks_and_its_lag_grows_while_it_is_silent(
    embedded: Service,
) -> None:
    clock = [1000.0]
    source = new_source(embedded, clock)
    assert told(source) == {}
    behind = report_of(embedded, "edge-oslo", lag=2_500, state=EdgeState.BEHIND)
    starting = report_of(embedded, "edge-lima", lag=None, state=EdgeState.STARTING, cursor=None, region="")
    await tell(embedded, behind)
    await tell(embedded, starting)
    for _ in range(3):
        await embedded.new_consumer()
    await source.look()
    found = told(source)
    assert found["keywright_edge_lag_seconds", "edge-oslo", "eu-north"] == pytest.approx(2.5, abs=2)
    assert found["keywright_edge_lag_seconds", "edge-lima", ""] == math.inf
    head = found["keywright_record_revision",]
    assert behind.revision is not None
    assert found["keywright_edge_lag_revisions", "edge-oslo", "eu-north"] == head - behind.revision >= 3
    assert found["keywright_edge_lag_revisions", "edge-lima", ""] == head
    assert found["keywright_edges", "behind"] == found["keywright_edges", "starting"] == 1
    assert found["keywright_edges", "synced"] == 1, "the one beside the origin"

    before = lags(source)["edge-oslo", "eu-north"]
    clock[0] += 60
    assert lags(source)["edge-oslo", "eu-north"] == pytest.approx(before + 60)


async def test_an_edge_that_another_process_heard_is_told_of_and_a_retired_one_is_not(embedded: Service) -> None:
    clock = [1000.0]
    source = new_source(embedded, clock)
    database = embedded.app._database
    report = replace(report_of(embedded, "edge-far"), lag=100)
    async with database.write() as tx:
        await rows.put_all(tx, [Heard(ACCOUNT, report, 300.0, HeldScopes.unknown(ACCOUNT))])
    await source.look()
    assert lags(source)["edge-far", "eu-north"] == pytest.approx(300.1, abs=3)
    assert told(source)["keywright_edges", "silent"] == 1
    async with database.write() as tx:
        await rows.retire(tx, ACCOUNT, report.instance)
    await source.look()
    assert ("edge-far", "eu-north") not in lags(source)


async def test_edges_beyond_so_many_are_told_as_the_one_that_is_furthest_behind(embedded: Service) -> None:
    clock = [1000.0]
    source = new_source(embedded, clock, most=3)
    heard = [
        Heard(ACCOUNT, report_of(embedded, f"a-{number}", lag=0), 10.0 * number, HeldScopes.unknown(ACCOUNT))
        for number in range(6)
    ]
    # Two of one name are told as one, too: the worse.
    twin = replace(report_of(embedded, "a-0", lag=0), instance="another-instance-of-a-0")
    async with embedded.app._database.write() as tx:
        await rows.put_all(tx, [*heard, Heard(ACCOUNT, twin, 500.0, HeldScopes.unknown(ACCOUNT))])
    await source.look()
    found = lags(source)
    assert set(found) == {("a-0", "eu-north"), ("a-1", "eu-north"), ("a-2", "eu-north"), (OTHER, "")}
    assert found[OTHER, ""] == pytest.approx(50, abs=5)
    assert found["a-0", "eu-north"] == pytest.approx(500, abs=5)
