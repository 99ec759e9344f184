"""What the tests of what we deploy share: where it is, and an origin and an edge before a real Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/keywright-rules.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}


@dataclass
class Monitored:
    """`origin` and `edge` are texts of a scrape of each."""

    prometheus: Prometheus
    origin: str
    edge: str
