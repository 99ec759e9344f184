"""What is put together for an edge: its parts go on while the files of its replica are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keywright.edge.replica.reader import NotReady
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.sync.wiring import new_sharing
from keywright.protocol.reports import UNFILLED


@pytest.mark.parametrize("error", [ReplicaBroken("replaced"), NotReady("closed"), None], ids=str)
def test_shares_are_asked_for_while_the_files_are_replaced(
    replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    nothing: Any = None

    def deployment_id(_: Replica) -> str:
        if error is not None:
            raise error
        return "dply_1/view"

    monkeypatch.setattr(Replica, "deployment_id", property(deployment_id))

    class Identity:
        instance = "0123456789abcdef"

    identity: Any = Identity()
    sharing = new_sharing(replica, tmp_path, nothing, nothing, identity, lambda: 0.0)
    assert sharing._teller.deployment_id() == ("dply_1" if error is None else UNFILLED)
    replica.close()
    assert sharing._teller.deployment_id() == UNFILLED
