"""Owns authentication: a credential becomes an Actor, judged like every other key (core/verdict.py)."""

from __future__ import annotations

from datetime import datetime

from keywright.core import keyformat
from keywright.core.keyformat import Digester
from keywright.core.models import to_millis
from keywright.core.permissions import Grantee
from keywright.core.problems import Unauthorized
from keywright.core.verdict import ConsumerRecord, KeyRecord, Verdict, decide
from keywright.origin.service.actor import Actor, ActorKind
from keywright.origin.store import keys as key_rows
from keywright.origin.store.database import Transaction

CHALLENGE = 'Bearer realm="keywright"'


async def authenticate(tx: Transaction, authorization: str | None, digester: Digester, now: datetime) -> Actor:
    """The actor behind an Authorization header that bears a management key. Raises Unauthorized."""
    if authorization is None:
        # RFC 6750 section 3.1: no error code where no credential was shown.
        raise Unauthorized("Send a management key: Authorization: Bearer <key>.", headers=_challenge())
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized("The Authorization header must be: Bearer <management key>.", headers=_challenge())
    # A root key that was brought along may have any form, a wrong checksum among them.
    actor = await _find_actor(tx, secret, digester, now) if keyformat.is_valid_custom(secret) else None
    if actor is None:
        raise Unauthorized("The management key is not valid.", headers=_challenge("invalid_token"))
    return actor


async def _find_actor(tx: Transaction, secret: str, digester: Digester, now: datetime) -> Actor | None:
    found = await key_rows.find_management_key(tx, digester.digest(secret))
    if found is None:
        return None
    key, name, metadata = found
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    record = KeyRecord(key.id, key.consumer_number, expires_at)
    result = decide(record, ConsumerRecord(name, name, b""), to_millis(now))
    if result.verdict is not Verdict.VALID:
        return None
    grantee = Grantee.from_json(metadata)
    return Actor(key.id, ActorKind.SERVICE, grantee, connection="management-key", description=key.description)


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": CHALLENGE + (f', error="{error}"' if error else "")}
