"""An EdgeApp for tests, on a status that they set."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge.world import DIGESTER
from keywright.edge.app import EdgeApp, new_validation_source
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.health import Health
from keywright.edge.http.jwks import Jwks
from keywright.edge.http.metrics import Metrics
from keywright.edge.http.replica_metrics import ReplicaSource
from keywright.edge.http.settle import SettleApi
from keywright.edge.http.validate import ValidateApi
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.quotas.reservations import Reservations
from keywright.edge.quotas.table import QuotaTable
from keywright.edge.quotas.taker import Quotas
from keywright.runtime.clock import Clock
from keywright.runtime.disk import Disk

if TYPE_CHECKING:
    from keywright.edge.identity_token import IdentitySigner
    from keywright.edge.mirror import MirrorStatus
    from keywright.edge.validator import Validator
    from keywright.runtime.metrics.worker_counts import WorkerCounts


class Status:
    is_synced = True
    revision: int | None = 7
    lag_seconds = 0.12345
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    reason: str | None = None
    is_refusing: bool = False
    is_format_unknown: bool = False
    mirror: MirrorStatus | None = None


def new_app(
    validator: Validator,
    status: Status | None = None,
    *,
    token_required: bool = False,
    signer: IdentitySigner | None = None,
    worker_counts: WorkerCounts | None = None,
    disk: Disk | None = None,
    takers: Takers | None = None,
    reservations: Reservations | None = None,
) -> EdgeApp:
    """`takers` are what the validator has, if any."""
    status = status or Status()
    takers = takers or Takers(LimitTable(Path("/nonexistent"), Clock().elapsed))
    validate_api = ValidateApi(validator, token_required=token_required)
    validate_v2_api = ValidateApi(validator, token_required=token_required, is_v2=True)
    forward_auth = ForwardAuth(validator, token_required=token_required, signer=signer)
    validations = new_validation_source(validate_api, validate_v2_api, forward_auth, worker_counts)
    replica_source = ReplicaSource(validator._replica, status, disk or Disk([Path("/")], 0))
    metrics = Metrics([validations, replica_source], worker_counts)
    jwks = None if signer is None else Jwks(signer.jwks)
    nobody = Quotas(QuotaTable(Path("/nonexistent"), Clock().elapsed), Clock().millis)
    reservations = reservations or Reservations(DIGESTER, nobody)
    settle_api = SettleApi(reservations, validator, Clock().elapsed, token_required=token_required)
    return EdgeApp(
        validate_api,
        validate_v2_api,
        forward_auth,
        Health(status),
        validations,
        replica_source,
        metrics,
        jwks,
        takers,
        settle_api,
    )
