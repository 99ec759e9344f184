"""Owns how the edge is put together: its endpoints from the settings, behind one ASGI callable.

serve puts it beside the origin: `find_endpoint` gives what answers at a path that is the edge's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from keywright.domain.problems import NotFound
from keywright.edge.gateway_clients import GatewayClients
from keywright.edge.http.endpoint import Endpoint, answering_failures, send_problem
from keywright.edge.http.forward_auth import PREFIX as FORWARD_AUTH_PREFIX
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.health import Health
from keywright.edge.http.jwks import Jwks
from keywright.edge.http.metrics import Metrics
from keywright.edge.http.replica_metrics import ReplicaSource
from keywright.edge.http.settle import PATH as SETTLE_PATH
from keywright.edge.http.settle import SettleApi
from keywright.edge.http.validate import PREFIX as VALIDATE_PREFIX
from keywright.edge.http.validate import PREFIX_V2 as VALIDATE_V2_PREFIX
from keywright.edge.http.validate import ValidateApi
from keywright.edge.http.validation_counts import ValidationSource
from keywright.edge.limits.takers import Takers
from keywright.edge.quotas.metrics import QuotaSource
from keywright.edge.quotas.reservations import Reservations
from keywright.edge.quotas.status import NOTE as NOTE_OF_QUOTAS
from keywright.edge.quotas.status import QuotasStatus
from keywright.edge.quotas.table import QUOTAS_DIRECTORY, QuotaTable
from keywright.edge.quotas.taker import Quotas
from keywright.edge.replica.freshness import find_boot_id
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.shares.status import NOTE, SharesStatus
from keywright.edge.usage.metrics import SpoolSource
from keywright.edge.validator import Validator
from keywright.runtime.metrics.shared_names import SharedNames
from keywright.runtime.metrics.worker_counts import WorkerCounts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from keywright.domain.keyformat import Digester
    from keywright.edge.grpc.ext_authz import GrpcServer
    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.http.health import SyncStatus
    from keywright.edge.identity_token import IdentitySigner
    from keywright.edge.limits.table import LimitTable
    from keywright.edge.replica.replica import Replica
    from keywright.edge.usage.edge_usage import EdgeUsage
    from keywright.http.client_address import ClientAddresses
    from keywright.runtime.clock import Clock
    from keywright.runtime.disk import Disk
    from keywright.runtime.metrics.families import Source
    from keywright.runtime.settings import PlaneSettings


class EdgeApp:
    """ASGI for the paths that it owns; 404 for all others."""

    def __init__(
        self,
        validate_api: ValidateApi,
        validate_v2_api: ValidateApi,
        forward_auth: ForwardAuth,
        health: Health,
        validations: ValidationSource,
        replica_source: ReplicaSource,
        metrics: Metrics,
        jwks: Jwks | None,
        takers: Takers,
        settle_api: SettleApi,
    ) -> None:
        """Use `new_edge_app`."""
        self.health = health
        self.takers = takers
        self._validate_api = validate_api
        self._validate_v2_api = validate_v2_api
        self._forward_auth = forward_auth
        self._validations = validations
        self.replica_source = replica_source
        self.metrics = metrics
        others: dict[str, Endpoint] = {
            "/livez": health.livez,
            "/readyz": health.readyz,
            "/metrics": metrics,
            SETTLE_PATH: settle_api,
        }
        if jwks is not None:
            others["/.well-known/jwks.json"] = jwks
        # The two on the hot path see to their own failures.
        self._others = {path: answering_failures(endpoint) for path, endpoint in others.items()}

    def find_endpoint(self, path: str) -> Endpoint | None:
        """What answers at this path, None where that is not the edge's to say."""
        if path.startswith(VALIDATE_PREFIX):
            return self._validate_api
        if path.startswith(FORWARD_AUTH_PREFIX):
            return self._forward_auth
        if path.startswith(VALIDATE_V2_PREFIX):
            return self._validate_v2_api
        return self._others.get(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.find_endpoint(scope["path"])
        if found is not None:
            await found(scope, receive, send)
        else:
            await send_problem(scope, send, NotFound("There is nothing at this address."))

    def new_grpc_server(self, host: str, port: int, on_check: Callable[[str], None]) -> GrpcServer:
        """The endpoint for Envoy over gRPC, to be started and stopped by whoever runs this app.

        `on_check` is told of each check by whom it comes from.
        """
        from keywright.edge.grpc.ext_authz import GrpcServer  # Loads grpcio, which not everybody has.

        counts = self._validations.endpoints["ext-authz"] = self._forward_auth.new_counts()
        return GrpcServer(self._forward_auth, host, port, on_check, counts)

    async def run(self, stop: asyncio.Event) -> None:
        """What goes on beside the requests, until `stop` is set: the counts are shared with the other workers."""
        await self.metrics.run(stop)


def new_edge_app(
    settings: PlaneSettings,
    replica: Replica,
    digester: Digester,
    status: SyncStatus,
    clock: Clock,
    disk: Disk,
    client_addresses: ClientAddresses,
    table: LimitTable,
    usage: EdgeUsage | None = None,
) -> EdgeApp:
    """The edge of one worker, to be made in that worker. `clock` is what keys are judged by. Without `usage` nothing is
    counted by key. Raises KeyFileError.
    """
    quotas = QuotaTable(settings.replica_dir / QUOTAS_DIRECTORY, clock.elapsed)
    taker = Quotas(quotas, clock.millis)
    takers, reservations = Takers(table, taker), Reservations(digester, taker)
    counter = None if usage is None else usage.counter
    validator = Validator(replica, digester, clock.millis, takers, counter, reservations)
    token_required = settings.validation_token_required
    settle_api = SettleApi(reservations, validator, clock.elapsed, token_required=token_required)
    signer = new_signer(settings, digester, clock)
    validate_api = _new_validate_api(settings, validator, is_v2=False)
    validate_v2_api = _new_validate_api(settings, validator, is_v2=True)
    clients = GatewayClients(client_addresses, clock.elapsed)
    forward_auth = ForwardAuth(
        validator,
        auth_header=settings.forward_auth_header,
        auth_scheme=settings.forward_auth_scheme,
        identity_headers=settings.identity_headers,
        token_required=settings.validation_token_required,
        min_revision_seconds=settings.min_revision_seconds,
        signer=signer,
        clients=clients,
    )
    origin_clock = clock if isinstance(clock, OriginClock) else None
    worker_counts = WorkerCounts.of_environment()
    validations = new_validation_source(validate_api, validate_v2_api, forward_auth, worker_counts)
    replica_source = ReplicaSource(replica, status, disk, origin_clock)
    sources: list[Source] = [validations, replica_source]
    find_status = partial(QuotasStatus.read, settings.replica_dir / NOTE_OF_QUOTAS, find_boot_id())
    sources.append(QuotaSource(taker, takers, reservations, find_status, clock.elapsed))
    metrics = Metrics(sources, worker_counts)
    if usage is not None:
        spool = SpoolSource(usage.spool.status)
        metrics.sources.append(spool)
        metrics.looks.append(spool.look)
    replica_source.find_shares = lambda: SharesStatus.read(settings.replica_dir / NOTE, clock.elapsed(), find_boot_id())
    jwks = None if signer is None else Jwks(signer.jwks)
    health = Health(status, origin_clock)
    health.warn_of(clients.list_warnings)
    return EdgeApp(
        validate_api,
        validate_v2_api,
        forward_auth,
        health,
        validations,
        replica_source,
        metrics,
        jwks,
        takers,
        settle_api,
    )


def new_validation_source(
    validate_api: ValidateApi,
    validate_v2_api: ValidateApi,
    forward_auth: ForwardAuth,
    worker_counts: WorkerCounts | None,
) -> ValidationSource:
    """What these endpoints count, beside what the same endpoints of other workers do."""
    counted = {
        "validate": validate_api.counts,
        "validate-v2": validate_v2_api.counts,
        "forward-auth": forward_auth.counts,
    }
    return ValidationSource(counted, SharedNames(None if worker_counts is None else worker_counts.directory))


def _new_validate_api(settings: PlaneSettings, validator: Validator, *, is_v2: bool) -> ValidateApi:
    return ValidateApi(
        validator,
        token_required=settings.validation_token_required,
        min_revision_seconds=settings.min_revision_seconds,
        is_v2=is_v2,
    )


def new_signer(settings: PlaneSettings, digester: Digester, clock: Clock) -> IdentitySigner | None:
    """What makes X-Consumer-Token; None where that is off. Raises KeyFileError."""
    if not settings.identity_token_seconds:
        return None
    from keywright.edge.identity_token import load_signer  # Loads joserfc and cryptography.

    return load_signer(
        digester,
        seconds=settings.identity_token_seconds,
        issuer=settings.identity_issuer,
        key_file=settings.identity_key_file,
        clock=clock.millis,
    )
