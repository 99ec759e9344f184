"""Owns what there is to say of a NATS broker: where it is, who we are there, how our things are called. Values only.

The settings make it and the rooms that speak to the broker read it; its client is loaded by neither for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keywright.domain.keyformat import Secret


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to reach the broker, and what the deployment's things are called there.

    `domain` is the JetStream domain that holds the streams, "" for that of the server itself. `mirrors` are the domains
    of mirrors of them. The names of streams and subjects begin with `prefix` (nats/subjects.py).
    """

    servers: tuple[str, ...]
    credentials: Path | None = None
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    domain: str = ""
    mirrors: tuple[str, ...] = ()
    prefix: str = "keywright"
    replicas: int = 1
