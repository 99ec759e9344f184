"""Owns authentication: a credential becomes an Actor, judged like every other key (core/verdict.py).

A credential is a management key, or the session of a portal that somebody began with one.
"""

from __future__ import annotations

from datetime import datetime

from keywright.core import keyformat
from keywright.core.keyformat import Digester
from keywright.core.models import Key, to_millis
from keywright.core.permissions import Grantee
from keywright.core.problems import Unauthorized
from keywright.core.verdict import ConsumerRecord, KeyRecord, Verdict, decide
from keywright.origin.service import sessions
from keywright.origin.service.actor import Actor, ActorKind, Tools
from keywright.origin.service.sessions import Session, SignedIn
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
    found = await _find_actor(tx, digester.digest(secret), now, is_held=is_held)
    if found is None:
        raise _invalid()
    return found[0]


async def sign_in(tx: Transaction, secret: str, tools: Tools) -> tuple[Actor, SignedIn] | None:
    """Who a management key signs in to a portal, and what the session is to stand on; None if it is no good."""
    if not keyformat.is_valid_custom(secret):
        return None
    found = await _find_actor(tx, tools.digester.digest(secret), tools.clock(), is_held=True)
    return None if found is None else (found[0], SignedIn(found[0].connection or "", key_number=found[1].number))


async def resume(
    tx: Transaction, portal: str, token: str, tools: Tools, *, is_held: bool = False
) -> tuple[Session, Actor] | None:
    """The session of a cookie and who acts in it; None if it is over, or the key that it stands on."""
    session = await sessions.find(tx, tools, portal, token)
    if session is None or session.key_number is None:
        return None
    found = await _find_actor(tx, session.key_number, tools.clock(), is_held=is_held)
    return None if found is None else (session, found[0])


async def _find_actor(
    tx: Transaction, digest_or_number: bytes | int, now: datetime, *, is_held: bool
) -> tuple[Actor, Key] | None:
    """The actor behind a management key, if the key is good now."""
    found = await key_rows.find_management_key(tx, digest_or_number, is_held=is_held)
    if found is None:
        return None
    key, name, metadata = found
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    record = KeyRecord(key.id, key.consumer_number, expires_at)
    result = decide(record, ConsumerRecord(name, name, b""), to_millis(now))
    if result.verdict is not Verdict.VALID:
        return None
    grantee = Grantee.from_json(metadata)
    actor = Actor(
        key.id,
        ActorKind.SERVICE,
        grantee,
        connection="management-key",
        description=key.description,
        expires_at=key.expires_at,
    )
    return actor, key


def _invalid() -> Unauthorized:
    return Unauthorized("The management key is not valid.", headers=_challenge("invalid_token"))


def _challenge(error: str | None = None) -> dict[str, str]:
    return {"WWW-Authenticate": CHALLENGE + (f', error="{error}"' if error else "")}
