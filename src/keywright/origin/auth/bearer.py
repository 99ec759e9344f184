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
from keywright.domain.networks import parse_address
from keywright.domain.permissions import Grantee
from keywright.domain.powers import Demand, decode_powers
from keywright.domain.problems import Forbidden, Unauthorized
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict, decide
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.db.transaction import Transaction
from keywright.origin.keys import store as key_rows

CHALLENGE = 'Bearer realm="keywright"'


async def authenticate(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, address: str, is_held: bool = False
) -> Actor:
    """The actor behind a management key that is used from this address, "" for one that is not known.

    Raises Unauthorized, and Forbidden where the key may not be used from there. With `is_held` the key can't be revoked
    until the transaction ends: what is done with it was done before.
    """
    row = await key_rows.find_management_key_by_digest(tx, digester.digest(secret), is_held=is_held)
    match _judge(row, now, address):
        case Verdict.VALID if row is not None:
            return _actor_of(row)
        case Verdict.IP_NOT_ALLOWED:
            raise Forbidden(f"This management key may not be used from {address or 'an address that is not known'}.")
    raise _invalid()


async def find_by_secret(
    tx: Transaction, secret: str, digester: Digester, now: datetime, *, address: str, is_held: bool = False
) -> tuple[Actor, Key] | None:
    """The actor behind a management key, and the key; None if it is not good now, or not from this address."""
    row = await key_rows.find_management_key_by_digest(tx, digester.digest(secret), is_held=is_held)
    is_valid = _judge(row, now, address) is Verdict.VALID
    return (_actor_of(row), row.key) if row is not None and is_valid else None


async def find_by_number(
    tx: Transaction, number: int, now: datetime, *, address: str, is_held: bool = False
) -> tuple[Actor, Key] | None:
    """The same, for the key with this row number, on which a session stands."""
    row = await key_rows.find_management_key_by_number(tx, number, is_held=is_held)
    is_valid = _judge(row, now, address) is Verdict.VALID
    return (_actor_of(row), row.key) if row is not None and is_valid else None


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


def _judge(row: key_rows.ManagementKeyRow | None, now: datetime, address: str) -> Verdict:
    if row is None:
        return Verdict.UNKNOWN
    put = key_rows.put(row.key)
    powers = None if put.powers is None else decode_powers(put.powers)
    record = KeyRecord(put.key_id, put.consumer_number, put.expires_at, powers)
    consumer = ConsumerRecord(row.consumer_name, row.consumer_name, b"")
    return decide(record, consumer, to_millis(now), Demand(address=parse_address(address))).verdict


def _actor_of(row: key_rows.ManagementKeyRow) -> Actor:
    key = row.key
    return Actor(
        key.id,
        ActorKind.SERVICE,
        Grantee.from_json(row.consumer_metadata),
        connection="management-key",
        description=key.description,
        expires_at=key.expires_at,
    )


def _invalid() -> Unauthorized:
    return Unauthorized("The management key is not valid.", headers=challenge("invalid_token"))
