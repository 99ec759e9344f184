"""The API Key Authentication policy, for other people's apps: where keys are judged, and who a request comes from.

    from keywright.policy import SharedReplica                what an edge on this machine keeps
    from keywright.policy import EmbeddedReplica              a replica of the app's own
    from keywright.policy import RemoteEdge                   an edge elsewhere, asked over HTTP
    from keywright.policy.fastapi import ApiKeyPolicy         and .asgi, .wsgi, .flask, .django, .drf, .generic
    from keywright.policy.testing import fake_keys            for the app's own tests

Each name is loaded when it is first asked for, so that an app pays for what it uses: a remote edge needs no LMDB.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keywright.policy.embedded import EmbeddedReplica
    from keywright.policy.remote import RemoteEdge
    from keywright.policy.rules.identity import Anonymous, Credential, Ended, User
    from keywright.policy.shared import SharedReplica
    from keywright.runtime.nats_options import NatsOptions

__all__ = ["Anonymous", "Credential", "EmbeddedReplica", "Ended", "NatsOptions", "RemoteEdge", "SharedReplica", "User"]

_MODULES = {
    "Anonymous": "keywright.policy.rules.identity",
    "Credential": "keywright.policy.rules.identity",
    "EmbeddedReplica": "keywright.policy.embedded",
    "Ended": "keywright.policy.rules.identity",
    "NatsOptions": "keywright.runtime.nats_options",
    "RemoteEdge": "keywright.policy.remote",
    "SharedReplica": "keywright.policy.shared",
    "User": "keywright.policy.rules.identity",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value
