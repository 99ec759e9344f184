"""Edges that there are in their reports only: what one says of itself, and the way to say it."""

from __future__ import annotations

import time
from typing import Any

from keywright.protocol.reports import FORMAT_VERSION, EdgeState, Report, ReportSigner
from keywright.serve import key_files
from support.service import Service


def report_of(service: Service, name: str, **changes: Any) -> Report:
    deployment_id = service.app._replica.deployment_id
    assert deployment_id is not None
    fields: dict[str, Any] = {
        "deployment_id": deployment_id,
        "instance": f"instance-of-{name:->16}"[:64],
        "start": "0" * 16,
        "number": time.monotonic_ns(),
        "name": name,
        "region": "eu-north",
        "version": "9.9",
        "state": EdgeState.SYNCED,
        "since": 1_800_000_000_000,
        "cursor": service.app._replica.cursor,
        "lag": 250,
    }
    return Report(**{**fields, **changes})


async def tell(service: Service, report: Report | bytes, key: str | None = None, expect: int = 200) -> Any:
    signer = ReportSigner(key_files.load_digester(service.settings))
    content = report if isinstance(report, bytes) else signer.encode(report, newest=FORMAT_VERSION)
    return await service.call("POST", "/v1/feed/acknowledgements", key=key, content=content, expect=expect)
