"""Owns the judgement of a token: who signed it, for whom, when, and whose it is."""

from __future__ import annotations

import base64
import binascii
import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, RSAKey
from joserfc.util import to_bytes

from keywright.domain.text import is_email
from keywright.origin.auth.oidc.provider import Provider

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures by a private key only. With a shared secret (HS256) the public key could pass for one; `none` is none."""

TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token may call itself, if it does: a logout token of the same issuer is no proof of who is there."""

KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
MAX_LENGTH = 16 * 1024
MAX_TEXT = 255
LEEWAY_SECONDS = 30
LEAST_RSA_BITS = 2048
MAX_MOMENT = 1e12


class TokenRefused(Exception):
    """The token proves nothing; the message says why, in words for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. `email` is in lower case, and verified; None where the token does not tell such a one."""

    sub: str
    email: str | None
    all: Mapping[str, Any]


async def verify(
    token: str, provider: Provider, audiences: Collection[str] | None, now: datetime, parties: Collection[str] = ()
) -> Claims:
    """The claims of a token. Raises TokenRefused and ProviderUnavailable.

    `parties` are the clients that may hold a token which is meant for others besides us.
    """
    claims = await verify_signature(token, provider)
    check_claims(claims, issuer=provider.issuer, audiences=audiences, now=now)
    if audiences is not None:
        check_party(claims, issuer=provider.issuer, parties={*parties, *audiences})
    return Claims(claims["sub"], verified_email(claims), claims)


async def verify_signature(token: str, provider: Provider) -> Mapping[str, Any]:
    """What stands in a token that the provider signed. Raises TokenRefused and ProviderUnavailable."""
    header = _header(token)
    algorithm = header.get("alg")
    # Its type first: a list, say, can be looked for in no set.
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused("it is not signed with an algorithm that is accepted here")
    if str(header.get("typ", "JWT")).lower() not in TYPES:
        raise TokenRefused("it is a token of another kind")
    kid = header.get("kid") if isinstance(header.get("kid"), str) else None
    payload = _opened_by_any(token, await provider.find_keys(kid), algorithm)
    if payload is None:
        payload = _opened_by_any(token, await provider.find_keys_anew(kid), algorithm)
    if payload is None:
        raise TokenRefused("it was not signed by the identity provider")
    return payload


def check_claims(claims: Mapping[str, Any], *, issuer: str, audiences: Collection[str] | None, now: datetime) -> None:
    """Raises TokenRefused unless the token is meant for us (None: whoever it is meant for), and good now."""
    if claims.get("iss") != issuer:
        raise TokenRefused("it is of another issuer")
    aud = claims.get("aud")
    named = aud if isinstance(aud, list) else [aud]
    if audiences is not None and not any(isinstance(one, str) and one in audiences for one in named):
        raise TokenRefused("it is for another audience")
    seconds = now.timestamp()
    ends = _moment(claims, "exp")
    if ends is None or ends + LEEWAY_SECONDS <= seconds:
        raise TokenRefused("it has expired" if ends is not None else "it has no end (exp)")
    for name in ("nbf", "iat"):
        begins = _moment(claims, name)
        if begins is not None and begins - LEEWAY_SECONDS > seconds:
            raise TokenRefused(f"it is not good yet ({name})")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 1 <= len(sub) <= MAX_TEXT or not sub.isprintable():
        raise TokenRefused("it names no user (sub)")


def has_several_audiences(claims: Mapping[str, Any]) -> bool:
    aud = claims.get("aud")
    return isinstance(aud, list) and len(aud) > 1


def check_party(claims: Mapping[str, Any], *, issuer: str, parties: Collection[str]) -> None:
    """Raises TokenRefused for a token of several audiences that names (`azp`) a client which is none of `parties`.

    Any of its audiences could have passed it on. The provider's own endpoints, such as userinfo, are no other audience.
    """
    aud = claims.get("aud")
    others = [one for one in aud if not (isinstance(one, str) and _is_of(issuer, one))] if isinstance(aud, list) else []
    party = claims.get("azp")
    if len(others) > 1 and party is not None and not (isinstance(party, str) and party in parties):
        named = "KEYWRIGHT_OIDC_AUTHORIZED_PARTIES"
        raise TokenRefused(f"it has several audiences and was issued to a client (azp) that {named} does not name")


def verified_email(claims: Mapping[str, Any]) -> str | None:
    """The address that the issuer has verified, in lower case."""
    email, is_verified = claims.get("email"), claims.get("email_verified")
    # Another reading of an odd one would be somebody else's mailbox, whoever verified this one.
    if not isinstance(email, str) or not is_email(email):
        return None
    # Some providers send it as a text.
    return email.lower() if is_verified is True or is_verified == "true" else None


def _is_of(issuer: str, audience: str) -> bool:
    return audience == issuer or audience.startswith(f"{issuer.rstrip('/')}/")


def _opened_by_any(token: str, keys: Collection[Key], algorithm: str) -> Mapping[str, Any] | None:
    """The claims, if one of these keys signed the token."""
    for key in keys:
        payload = _opened(token, key, algorithm) if _fits(key, algorithm) else None
        if payload is not None:
            return payload
    return None


def _header(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_LENGTH or not token.isascii():
        raise TokenRefused("it is no signed JWT")
    try:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise TokenRefused("it is no signed JWT") from None
    if not isinstance(header, dict):
        raise TokenRefused("it is no signed JWT")
    return header


def _fits(key: Key, algorithm: str) -> bool:
    """Whether a key may sign by this algorithm: its kind, and what its publisher says of it."""
    if key.key_type != KEY_TYPES[algorithm[:2]] or key.get("alg", algorithm) not in {algorithm, "EdDSA"}:
        return False
    return not isinstance(key, RSAKey) or key.public_key.key_size >= LEAST_RSA_BITS


def _opened(token: str, key: Key, algorithm: str) -> Mapping[str, Any] | None:
    """The claims, if this key signed the token."""
    try:
        with warnings.catch_warnings():
            # EdDSA is what providers call Ed25519 still; the name is old, not weak.
            warnings.simplefilter("ignore")
            signed = jws.deserialize_compact(to_bytes(token), key, algorithms=[algorithm])
        claims = json.loads(signed.payload or b"")
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate; None where there is none. Raises TokenRefused for what is no number."""
    value = claims.get(name)
    if value is None:
        return None
    # Python's JSON knows NaN, which is neither before nor after any moment.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_MOMENT:
        raise TokenRefused(f"its {name} is no time")
    return value
