"""Applications that can't start, for real servers; the policy is around them."""

from __future__ import annotations

import os
from typing import Any

from keywright.policy.asgi import ApiKeyPolicy
from keywright.policy.shared import SharedReplica
from policy.keys import Keys


async def _raising(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        raise OSError("no database")
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _quiet(scope: Any, receive: Any, send: Any) -> None:
    await receive()


RAISING = ApiKeyPolicy(_raising, Keys(), bucket_name="my-bucket", allow_unauthenticated_requests=True)
WITHOUT_PEPPER = ApiKeyPolicy(
    _quiet, lambda: SharedReplica(os.environ["APP_DIRECTORY"], ready_seconds=0.1), bucket_name="my-bucket"
)
