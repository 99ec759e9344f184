"""Owns how an edge speaks to its origin over HTTP: under which name, by which token, and led nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from keywright import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keywright.domain.keyformat import Secret


def new_client(
    origin: str, token: Secret, *, edge_name: str, headers: Mapping[str, str], timeout: float | httpx2.Timeout
) -> httpx2.AsyncClient:
    """A client for the origin's addresses, with these headers beside its own. `aclose` it."""
    return httpx2.AsyncClient(
        base_url=origin,
        headers={
            "authorization": f"Bearer {token.reveal()}",
            "user-agent": f"keywright-edge/{__version__} ({edge_name})",
            **headers,
        },
        timeout=timeout,
        follow_redirects=False,
    )
