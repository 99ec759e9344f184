"""What is counted, as Prometheus reads it: a bucket of a histogram holds all that took no longer; sums are seconds."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from keywright.runtime.metrics import histogram
from keywright.runtime.metrics.families import Family, to_metrics
from keywright.runtime.metrics.histogram import Histogram

SECONDS = Family("a_duration_seconds", "How long.", ("endpoint",), (0.001, 0.01))
ASKED = Family("a_question", "How many.", ("endpoint",))


def test_a_histogram_counts_what_took_up_to_each_bound_and_told_together_loses_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    workers = [Histogram(SECONDS.bounds), Histogram(SECONDS.bounds)]
    clock = 0
    monkeypatch.setattr(histogram, "now_ns", lambda: clock)
    for number, took in enumerate([1_000_000, 1_000_001, 10_000_000, 10_000_001, 0]):
        clock = 7_000 + took
        workers[number % 2].observe_since(7_000)
    total = {("a_question", "x"): 3}
    for worker in workers:
        for key, count in SECONDS.of(worker, "x").items():
            total[key] = total.get(key, 0) + count
    found = read([SECONDS, ASKED], total)
    assert found["a_duration_seconds_bucket", "0.001"] == 2
    assert found["a_duration_seconds_bucket", "0.01"] == 4
    assert found["a_duration_seconds_bucket", "+Inf"] == found["a_duration_seconds_count", None] == 5
    assert found["a_duration_seconds_sum", None] == 0.022000002
    assert found["a_question_total", None] == 3


def test_a_family_of_which_nothing_was_counted_is_told_of_all_the_same() -> None:
    text = rendered([SECONDS, ASKED], {("another", "x"): 3})
    assert "# TYPE a_duration_seconds histogram" in text
    assert "# TYPE a_question_total counter" in text
    assert "another" not in text


def read(families: list[Family], counts: dict[tuple[str, ...], int]) -> dict[tuple[str, str | None], float]:
    text = rendered(families, counts)
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["endpoint"] for sample in found} == {"x"}
    return {(sample.name, sample.labels.get("le")): sample.value for sample in found}


def rendered(families: list[Family], counts: dict[tuple[str, ...], int]) -> str:
    class Scrape(Collector):
        def collect(self):  # type: ignore[no-untyped-def]
            return to_metrics(families, counts)

    return generate_latest(Scrape()).decode()
