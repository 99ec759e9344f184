"""Owns what an Authorization header bears, and authentication by management key: a key becomes an Actor.

A management key is judged like every other key (domain/verdict.py). Sessions of the portals are in auth/sessions.py,
tokens of end users in auth/end_users.py.
"""

from __future__ import annotations

from datetime import datetime

from fastapi import Request

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester
from keywright.domain.models import Key, to_millis
from keywright.domain.permissions import Grantee
from keywright.domain.problems import Unauthorized
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict, decide
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.db.transaction import Transaction
from keywright.origin.keys import store as key_rows

CHALLENGE = 'Bearer realm="keywright"'


async def authenticate(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, is_held: bool = False
) -> Actor:
    """The actor behind a management key. Raises Unauthorized.

    With `is_held` the key can't be revoked until the transaction ends: what is done with it was done before.
    """
    found = await find_by_secret(tx, secret, digester, now, is_held=is_held)
    if found is None:
        raise _invalid()
    return found[0]


async def find_by_secret(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, is_held: bool = False
) -> tuple[Actor, Key] | None:
    """The actor behind a management key, and the key; None if it is not good now."""
    row = await key_rows.find_management_key_by_digest(tx, digester.digest(secret), is_held=is_held)
    return _judge(row, now)


async def find_by_number(
    tx: Transaction, number: int, now: datetime, *, is_held: bool = False
) -> tuple[Actor, Key] | None:
    """The same, for the key with this row number, on which a session stands."""
    return _judge(await key_rows.find_management_key_by_number(tx, number, is_held=is_held), now)


def authorization_of(request: Request) -> str | None:
    """The one Authorization header, if there is one. Raises Unauthorized for several."""
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise Unauthorized("Send one Authorization header, not several.", headers=challenge("invalid_request"))
    return headers[0] if headers else None


def parse_management_key(authorization: str | None) -> str:
    """The management key in an Authorization header. Raises Unauthorized for what can be none; asks no database."""
    secret = parse_bearer(authorization, "management key")
    # A root key that was brought along may have any form, a wrong checksum among them.
    if not keyformat.is_valid_custom(secret):
        raise _invalid()
    return secret


def parse_bearer(authorization: str | None, what: str) -> str:
    """What an Authorization header bears (RFC 6750 section 2.1). Raises Unauthorized."""
    if authorization is None:
        # RFC 6750 section 3.1: no error code where no credential was shown.
        raise Unauthorized(f"Send a {what}: Authorization: Bearer <{what}>.", headers=challenge())
    scheme, _, borne = authorization.partition(" ")
    borne = borne.strip(" ")
    if scheme.lower() != "bearer" or not borne:
        raise Unauthorized(f"The Authorization header must be: Bearer <{what}>.", headers=challenge())
    return borne


def challenge(error: str | None = None) -> dict[str, str]:
    """The header that tells what to authenticate with (RFC 6750 section 3)."""
    return {"WWW-Authenticate": CHALLENGE + (f', error="{error}"' if error else "")}


def _judge(row: key_rows.ManagementKeyRow | None, now: datetime) -> tuple[Actor, Key] | None:
    if row is None:
        return None
    key = row.key
    expires_at = None if key.expires_at is None else to_millis(key.expires_at)
    record = KeyRecord(key.id, key.consumer_number, expires_at)
    consumer = ConsumerRecord(row.consumer_name, row.consumer_name, b"")
    if decide(record, consumer, to_millis(now)).verdict is not Verdict.VALID:
        return None
    grantee = Grantee.from_json(row.consumer_metadata)
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
    return Unauthorized("The management key is not valid.", headers=challenge("invalid_token"))
