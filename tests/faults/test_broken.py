"""The checker sees a product that doesn't hear of revocations, and not only made-up histories of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.schedule import Engine, Fault, Kind, Schedule, Step
from faults.worlds import Worlds

pytestmark = pytest.mark.long(90)

DROP_REVOCATIONS = """
from keywright.edge.replica.writer import ReplicaWriter
from keywright.protocol.changes import KeyDelete
change = ReplicaWriter._change
def without(self, tx, one, **more):
    isinstance(one, KeyDelete) or change(self, tx, one, **more)
ReplicaWriter._change = without
"""
BOAST = """
from keywright.edge.sync.leader_election import LeaderElection
LeaderElection.is_synced, LeaderElection.lag_seconds = property(lambda _: True), property(lambda _: 0.0)
"""
CUT_OFF = (Step(0.1, 4.0, Fault.STALL, "edge-1's link", 1), Step(0.1, 4.0, Fault.STALL, "edge-2's link", 2))
IN_STEP, HEALED = "who_is_in_step_knows_of_what_was_revoked", "what_was_revoked_is_refused_once_all_has_healed"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("broken", "steps", "rules"),
    [(DROP_REVOCATIONS, (), {IN_STEP, HEALED}), (BOAST, CUT_OFF, {IN_STEP})],
    ids=["drops-revocations", "says-that-it-is-in-step"],
)
def test_a_product_that_does_not_hear_of_revocations_is_seen(
    tmp_path: Path, broken: str, steps: tuple[Step, ...], rules: set[str]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(broken)
    with Worlds(tmp_path, edge_variables={"PYTHONPATH": str(site)}) as worlds:
        outcome = worlds.play(Schedule(1, Engine.SQLITE, steps, Kind.FROZEN))
    assert rules <= {said.partition(":")[0] for said in outcome.violations}, outcome
