"""The dashboard, and what it asks Prometheus."""

from __future__ import annotations

import json
from typing import Any

from deploy.monitored import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/keywright.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$instance": ".*", "$__rate_interval": "1m"}


def expressions() -> list[str]:
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [one.replace(name, value) for one in found]
    return found
