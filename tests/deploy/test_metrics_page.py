"""The page of metrics names every metric that is scraped, with its type and labels, and none besides."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from deploy.monitored import ROOT, Monitored

PAGE = ROOT / "docs/reference/metrics.md"
_ROW = re.compile(r"^\| `(keywright_\w+)` \| (\w+) \| (.*?) ?\| (both|edge|origin) \|", re.MULTILINE)
WITHOUT_SAMPLES = {"keywright_edge_reads_older_format": frozenset({"edge"})}
"""Whose labels no scrape of a healthy deployment has."""

Told = dict[str, tuple[str, frozenset[str]]]


def told_by(scraped: str) -> Told:
    """By name: the type, and the labels."""
    found: Told = {}
    for family in text_string_to_metric_families(scraped):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        found[name] = family.type, WITHOUT_SAMPLES.get(name, labels)
    return found


def told_by_the_page(*places: str) -> Told:
    rows = _ROW.findall(PAGE.read_text())
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, at in rows if at in places}


def test_the_page_tells_every_metric_of_an_edge_and_no_other(monitored: Monitored) -> None:
    assert told_by(monitored.edge) == told_by_the_page("both", "edge")


def test_the_page_tells_every_metric_of_an_origin_and_no_other(monitored: Monitored) -> None:
    assert told_by(monitored.origin) == told_by_the_page("both", "origin")


def test_what_is_scraped_tells_of_no_key_consumer_or_address(monitored: Monitored) -> None:
    for text in (monitored.origin, monitored.edge):
        labels = {label for _, names in told_by(text).values() for label in names}
        assert labels <= {
            "endpoint",
            "bucket",
            "verdict",
            "write",
            "method",
            "route",
            "status",
            "state",
            "edge",
            "region",
        }
        assert "consumer-" not in text
        assert "kwak_" not in text
