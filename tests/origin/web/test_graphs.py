"""Graphs show what there is, in proportion, and nothing outside of their frame."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from keywright.origin.web.graphs import BAD, GOOD, HEIGHT, LIMITED, SPARK_HEIGHT, SPARK_WIDTH, WIDTH, draw, spark

LAST = datetime(2026, 11, 29, 23, 59, tzinfo=UTC)


def test_days_stand_in_their_order_with_verdicts_on_top_of_each_other() -> None:
    daily = {
        date(2026, 11, 28): {"VALID": 60, "RATE_LIMITED": 20, "QUOTA_EXCEEDED": 10, "EXPIRED": 10},
        date(2026, 11, 29): {"VALID": 50},
        date(2026, 10, 1): {"VALID": 10**9},
    }
    graph = draw(daily, LAST, 30)
    assert [column.day.isoformat() for column in graph.columns][::29] == ["2026-10-31", "2026-11-29"]
    first, last = graph.columns[-2:]
    assert [(bar.kind, bar.y, bar.height) for bar in first.bars] == [
        (GOOD, HEIGHT * 0.4, HEIGHT * 0.6),
        (LIMITED, HEIGHT * 0.1, HEIGHT * 0.3),
        (BAD, 0.0, HEIGHT * 0.1),
    ]
    assert [(bar.y, bar.height) for bar in last.bars] == [(HEIGHT / 2, HEIGHT / 2)]
    assert (graph.top, graph.total, graph.kinds) == (100, 150, [GOOD, LIMITED, BAD])
    assert list(graph.verdicts) == ["VALID", "RATE_LIMITED", "EXPIRED", "QUOTA_EXCEEDED"]


@pytest.mark.parametrize("draw_it", [draw, spark], ids=["graph", "spark"])
def test_no_bar_is_outside_the_frame_or_too_small_to_be_seen(draw_it: type) -> None:
    counts = {
        date(2026, 11, day): {"VALID": 10**12 if day % 2 else 1, "EXPIRED": 1, "UNKNOWN": 0} for day in range(1, 30)
    }
    graph = draw_it(counts, LAST, 30)
    size = (SPARK_WIDTH, SPARK_HEIGHT) if draw_it is spark else (WIDTH, HEIGHT)
    assert (graph.width, graph.height) == size
    for column in graph.columns:
        for bar in column.bars:
            assert 0 <= bar.x < bar.x + bar.width <= graph.width
            assert bar.y >= 0
            assert bar.height >= 1
    assert [len(column.bars) for column in graph.columns[1:]] == [2] * 29


def test_nothing_is_drawn_of_nothing() -> None:
    graph = draw({}, LAST, 30)
    assert (graph.total, graph.top, graph.kinds) == (0, 1, [])
    assert all(column.bars == [] for column in graph.columns)
