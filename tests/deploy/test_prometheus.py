"""The alert rules, by Prometheus' own tools: each fires where it should, names what there is and leads to a page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from deploy.monitored import ALERTS, ROOT, RULES
from support.prometheus import promtool

UNIT_TESTS = Path(__file__).with_name("keywright-rules.test.yaml")


def test_the_configuration_and_the_rules_are_what_prometheus_reads() -> None:
    checked = promtool("check", "config", "prometheus.yml", cwd=RULES.parent)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_each_alert_fires_and_is_quiet_where_its_unit_test_says(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(UNIT_TESTS, tmp_path)
    tested = promtool("test", "rules", UNIT_TESTS.name, cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, is_quiet = set(), set()
    for one in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for case in one["alert_rule_test"]:
            (fires if case["exp_alerts"] else is_quiet).add(case["alertname"])
    assert fires == is_quiet == set(ALERTS)


def test_a_rule_that_is_broken_fails_its_unit_test(tmp_path: Path) -> None:
    shutil.copy(UNIT_TESTS, tmp_path)
    broken = RULES.read_text().replace("keywright_replica_lag_seconds > 30", "keywright_replica_lag_seconds > 3")
    (tmp_path / RULES.name).write_text(broken)
    tested = promtool("test", "rules", UNIT_TESTS.name, cwd=tmp_path)
    assert tested.returncode != 0
    assert "KeywrightEdgeBehind" in tested.stdout + tested.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_leads_to_what_can_be_done_about_it(name: str) -> None:
    rule = ALERTS[name]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert name in headings
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
