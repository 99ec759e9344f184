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


def secret_in(authorization: str | None) -> str:
    """The management key in an Authorization header. Raises Unauthorized for what can be none; asks no database."""
    if authorization is None:
        # RFC 6750 section 3.1: no error code where no credential was shown.
        raise Unauthorized("Send a management key: Authorization: Bearer <key>.", headers=_challenge())
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized("The Authorization header must be: Bearer <management key>.", headers=_challenge())
    # A root key that was brought along may have any form, a wrong checksum among them.
    if not keyformat.is_valid_custom(secret):
        raise _invalid()
    return secret


async def authenticate(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, is_held: bool = False
) -> Actor:
    """The actor behind a management key. Raises Unauthorized.

    With `is_held` the key can't be revoked until the transaction ends: what is done with it was done before.
    """
    found = await key_rows.find_management_key(tx, digester.digest(secret), is_held=is_held)
    if found is None:
        raise _invalid()
    key, name, metadata = found
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    record = KeyRecord(key.id, key.consumer_number, expires_at)
    result = decide(record, ConsumerRecord(name, name, b""), to_millis(now))
    if result.verdict is not Verdict.VALID:
        raise _invalid()
    grantee = Grantee.from_json(metadata)
    return Actor(
        key.id,
        ActorKind.SERVICE,
        grantee,
        connection="management-key",
        description=key.description,
        expires_at=key.expires_at,
    )


def _invalid() -> Unauthorized:
    return Unauthorized("The management key is not valid.", headers=_challenge("invalid_token"))


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": CHALLENGE + (f', error="{error}"' if error else "")}
