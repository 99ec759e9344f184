"""Owns the unit of work that every rule is handed: the open transaction, who acts, when and with what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keywright.domain.identity_headers import DEFAULT_MAX_BYTES, identity_bytes
from keywright.domain.keyformat import DEFAULT_PREFIX, Digester
from keywright.origin.auth.actors import Actor
from keywright.origin.db.tables import to_json
from keywright.origin.db.transaction import Transaction
from keywright.origin.keys.vault import Vault


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """One unit of work: an open transaction, who acts, when, and with what."""

    tx: Transaction
    actor: Actor
    now: datetime
    dependencies: Dependencies
    audit_draft: AuditDraft


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What every unit of work is given by the composition root."""

    vault: Vault
    digester: Digester
    random_bytes: Callable[[int], bytes]
    clock: Callable[[], datetime]
    limits: Limits
    issuer: str | None = None
    """The identity provider of the end users, by the name that it gives itself."""
    own_edge: str | None = None
    """The instance of the edge beside this origin, None where there is none."""
    key_prefix: str = DEFAULT_PREFIX
    """Of the keys of new buckets of which nothing else is said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes, times and strictness that a deployment may set. `metadata_bytes` counts the encoded JSON object.

    `identity_bytes` is what gateways can pass on of a consumer, in headers.
    """

    metadata_bytes: int = 1024
    identity_bytes: int = DEFAULT_MAX_BYTES
    tags: int = 5
    session_idle: timedelta = timedelta(minutes=60)
    """How long nobody may use a portal's session before it ends."""
    session_life: timedelta = timedelta(hours=12)
    usage_hours_days: int = 14
    """For how many days usage is kept by the hour."""
    usage_days_kept: int = 395
    """For how many days usage is kept by the day."""
    ignores_unknown_members: bool = False
    """Whether what a body holds beyond its shape is passed over, instead of refused."""

    def check_tags(self, tags: Mapping[str, str], problems: list[dict[str, str]], *, place: str = "body") -> None:
        """Adds what is wrong with a set of tags, sent in a body, to `problems`."""
        if len(tags) > self.tags:
            message = f"holds {len(tags)} tags; at most {self.tags} are allowed"
            problems.append({"field": f"{place}.tags", "message": message})

    def check_metadata(
        self, metadata: Mapping[str, Any], problems: list[dict[str, str]], *, place: str = "body"
    ) -> None:
        """The same for metadata."""
        size = len(to_json(metadata).encode())
        if size > self.metadata_bytes:
            message = f"is {size} bytes of JSON; at most {self.metadata_bytes} are allowed"
            problems.append({"field": f"{place}.metadata", "message": message})

    def check_identity(
        self,
        consumer: Mapping[str, Any],
        key: Mapping[str, Any],
        scopes: Collection[str],
        problems: list[dict[str, str]],
        *,
        field: str = "body.metadata",
    ) -> None:
        """The same for all that an API is told of a key: the metadata of its consumer and its own, and its scopes.

        What is more a gateway could not pass on: every request with it would be a 503 there.
        """
        size = identity_bytes(to_json(consumer), to_json(key) if key else None, scopes)
        if size > self.identity_bytes:
            message = f"takes up to {size} bytes in a gateway's headers; at most {self.identity_bytes} are allowed"
            problems.append({"field": field, "message": message})


@dataclass(slots=True)
class AuditDraft:
    """What is being tried, written to the audit log whether it succeeds or is refused."""

    action: str | None = None
    account_id: str | None = None
    resources: list[dict[str, Any]] = field(default_factory=list)

    def concerns(self, type: str, id: str, **metadata: Any) -> None:
        self.resources.append({"type": type, "id": id, "metadata": metadata or None})

    def tells(self, id: str, **metadata: Any) -> None:
        """Adds to what is told of a resource, once it is known what becomes of it."""
        # The last of it, and from the end: in bulk it is called for each key as soon as that is noted.
        for resource in reversed(self.resources):
            if resource["id"] == id:
                resource["metadata"] = {**(resource["metadata"] or {}), **metadata}
                return
