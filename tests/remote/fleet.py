"""What the tests of many edges ask an origin: how each is, and that a key ends."""

from __future__ import annotations

from typing import Any

import httpx2

from remote.conftest import BUCKET, BUCKETS, Origin
from support.process import EdgeProcess

EDGES = "/v1/accounts/my-account/edges"
KEYS = f"{BUCKETS}/{BUCKET}/consumers/one/keys"


def listed(origin: Origin) -> dict[str, dict[str, Any]]:
    return {edge["name"]: edge for edge in origin.call("GET", EDGES)["data"]}


def state_of(origin: Origin, name: str) -> tuple[bool, str] | None:
    edge = listed(origin).get(name)
    return None if edge is None else (edge["connected"], edge["state"])


def revoke(origin: Origin, key: dict[str, Any], query: str) -> httpx2.Response:
    answer = origin.client.delete(f"{KEYS}/{key['id']}?{query}", timeout=60)
    assert answer.status_code == 204, answer.text
    return answer


def answers(edge: EdgeProcess) -> bool:
    try:
        return edge.get("/livez") == {"alive": True}
    except httpx2.TransportError:
        return False
