"""What a real Prometheus scrapes: the page names all of it, and rules and dashboard ask for nothing besides."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from deploy.dashboard import expressions
from deploy.monitored import ALERTS, ROOT, Monitored

PAGE = ROOT / "docs/reference/metrics.md"
_ROW = re.compile(r"^\| `(keywright_\w+)` \| (\w+) \| (.*?) ?\| (both|edge|origin) \|", re.MULTILINE)
_METRIC = re.compile(r"\bkeywright_\w+\b")
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
            "outcome",
            "code",
        }
        assert "consumer-" not in text
        assert "kwak_" not in text


def test_every_metric_of_the_dashboard_is_scraped(monitored: Monitored) -> None:
    names = set(monitored.prometheus.get("label/__name__/values"))
    assert set(_METRIC.findall(" ".join(expressions()))) - names == set()


def test_prometheus_answers_every_panel(monitored: Monitored) -> None:
    empty = [expression for expression in expressions() if not monitored.prometheus.query(expression)]
    # No validation was without an answer.
    assert [one for one in empty if 'verdict="UNAVAILABLE"' not in one] == []


def test_every_metric_of_a_rule_is_scraped_and_no_alert_that_can_be_tested_fires(monitored: Monitored) -> None:
    names = set(monitored.prometheus.get("label/__name__/values"))
    used = {name for rule in ALERTS.values() for name in _METRIC.findall(rule["expr"])}
    assert used - names == set()
    loaded = [rule for group in monitored.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == set(ALERTS)
    assert [rule["lastError"] for rule in loaded if rule.get("lastError")] == []
    firing = {rule["name"] for rule in loaded if rule["state"] != "inactive"}
    # There is no HAProxy at the socket that the edge was given.
    assert firing <= {"KeywrightHaproxyBehind", "KeywrightDiskLow"}
