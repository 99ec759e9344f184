"""The edge's composition root: its doors behind one ASGI callable, and what tells how the edge is doing.

serve puts it beside the origin: `find_endpoint` gives what answers at a path that is the edge's.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from keywright.domain import models
from keywright.domain.problems import MethodNotAllowed, NotFound, Problem
from keywright.domain.verdict import Verdict
from keywright.edge.http import endpoint as http
from keywright.edge.http import forward_auth
from keywright.edge.http import validate as validate_api
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.min_revision import WAIT_SECONDS
from keywright.edge.http.validate import ValidateApi
from keywright.edge.validator import now_millis
from keywright.http.identity_headers import IDENTITY_HEADERS, IdentityHeaders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from keywright.domain.keyformat import Digester
    from keywright.edge.grpc.ext_authz import GrpcServer
    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.identity_token import IdentitySigner
    from keywright.edge.validator import Validator


Door = Callable[[http.Scope, http.Receive, http.Send], Awaitable[None]]


class SyncStatus(Protocol):
    """How far the replica is; a SyncLoop has it."""

    @property
    def is_synced(self) -> bool: ...
    @property
    def revision(self) -> int | None: ...
    @property
    def lag_seconds(self) -> float: ...
    @property
    def since(self) -> datetime: ...
    @property
    def reason(self) -> str | None: ...


class IdentitySettings(Protocol):
    """What the settings of both planes say of the identity token."""

    @property
    def identity_token_seconds(self) -> int: ...
    @property
    def identity_issuer(self) -> str: ...
    @property
    def identity_key_file(self) -> Path | None: ...


class EdgeApp:
    """ASGI for the paths that it owns."""

    def __init__(
        self,
        validator: Validator,
        status: SyncStatus,
        *,
        registry: CollectorRegistry | None = None,
        token_required: bool = False,
        auth_header: str = "authorization",
        auth_scheme: str = "Bearer",
        identity_headers: IdentityHeaders = IDENTITY_HEADERS,
        min_revision_seconds: float = WAIT_SECONDS,
        signer: IdentitySigner | None = None,
    ) -> None:
        self._status = status
        self._registry = registry
        self._validate_api = ValidateApi(
            validator, token_required=token_required, min_revision_seconds=min_revision_seconds
        )
        self.forward_auth = ForwardAuth(
            validator,
            auth_header=auth_header,
            auth_scheme=auth_scheme,
            identity_headers=identity_headers,
            token_required=token_required,
            min_revision_seconds=min_revision_seconds,
            signer=signer,
        )
        self._pages: dict[str, Door] = {"/livez": self.livez, "/readyz": self.readyz, "/metrics": self.metrics}
        if signer is not None:
            self._jwks = signer.jwks
            self._pages["/.well-known/jwks.json"] = self.jwks
        if registry is not None:
            registry.register(_EdgeMetrics({"validate": self._validate_api, "forward-auth": self.forward_auth}, status))

    def new_grpc_server(self, host: str, port: int) -> GrpcServer:
        """The door for Envoy over gRPC, to be started and stopped by whoever runs this app."""
        from keywright.edge.grpc.ext_authz import GrpcServer  # Loads grpcio, which not everybody has.

        return GrpcServer(self.forward_auth, host, port)

    def find_endpoint(self, path: str) -> Door | None:
        """What answers at this path, None where that is not the edge's to say."""
        if path.startswith(validate_api.PREFIX):
            return self._validate_api
        if path.startswith(forward_auth.PREFIX):
            return self.forward_auth
        return self._pages.get(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self.find_endpoint(scope["path"])
        if door is not None:
            await door(scope, receive, send)
        else:
            await http.send_problem(scope, send, NotFound())

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 as long as the event loop turns."""
        await _send_page(scope, send, 200, b"application/json", b'{"alive":true}')

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 when keys can be judged, in step with the record or not; 503 before the first snapshot."""
        status = self._status
        revision, lag = status.revision, status.lag_seconds
        told = {
            "ready": revision is not None,
            "synced": status.is_synced,
            "revision": revision,
            "lag_seconds": round(lag, 3) if math.isfinite(lag) else None,
            "since": models.to_iso(status.since),
        }
        if status.reason is not None:
            told["reason"] = status.reason
        body = http.encode_json(told)
        await _send_page(scope, send, 503 if revision is None else 200, b"application/json", body)

    async def jwks(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The public keys by which a backend verifies X-Consumer-Token."""
        await _send_page(scope, send, 200, b"application/json", self._jwks)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything in the registry, in Prometheus' text format."""
        body = b"" if self._registry is None else generate_latest(self._registry)
        await _send_page(scope, send, 200, CONTENT_TYPE_LATEST.encode(), body)


class _EdgeMetrics(Collector):
    """Reads the doors' own counts when it is asked, so that counting costs a request an addition and no lock."""

    def __init__(self, doors: dict[str, ValidateApi | ForwardAuth], status: SyncStatus) -> None:
        self._doors = doors
        self._status = status

    def collect(self) -> Iterable[Metric]:
        validations = CounterMetricFamily(
            "keywright_validations", "Validations by door and verdict.", labels=["door", "verdict"]
        )
        for name, door in self._doors.items():
            validations.add_metric([name, Verdict.VALID], door.valid_count)
            for verdict, count in list(door.counts.items()):
                validations.add_metric([name, verdict], count)
        yield validations
        status = self._status
        yield GaugeMetricFamily("keywright_replica_synced", "1 if the replica is in step.", int(status.is_synced))
        yield GaugeMetricFamily(
            "keywright_replica_lag_seconds", "Time since it was; +Inf if that is not known.", status.lag_seconds
        )
        yield GaugeMetricFamily(
            "keywright_replica_since_timestamp_seconds", "When it came to be so, or not.", status.since.timestamp()
        )
        yield GaugeMetricFamily("keywright_replica_revision", "0 before the first snapshot.", status.revision or 0)


def new_signer(settings: IdentitySettings, digester: Digester) -> IdentitySigner | None:
    """What makes X-Consumer-Token; None where that is off. Raises KeyFileError."""
    if not settings.identity_token_seconds:
        return None
    from keywright.edge.identity_token import load_signer  # Loads joserfc and cryptography.

    return load_signer(
        digester,
        seconds=settings.identity_token_seconds,
        issuer=settings.identity_issuer,
        key_file=settings.identity_key_file,
        clock=now_millis,
    )


async def _send_page(scope: Scope, send: Send, status: int, content_type: bytes, body: bytes) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        problem: Problem = MethodNotAllowed(headers={"allow": "GET, HEAD"})
        await http.send_problem(scope, send, problem)
        return
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
