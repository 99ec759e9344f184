"""Owns the identity token: a short-lived JWT (ES256) by which a backend trusts who asks, without trusting the network.

All edges of a deployment sign with one key, so a backend needs to know one set of public keys, whichever edge it is
behind. The key is drawn from the pepper, which they all have, unless a PEM file gives another one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from keywright.domain.powers import NO_POWERS, list_granted
from keywright.runtime.secret_files import KeyFileError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.domain.keyformat import Digester
    from keywright.domain.verdict import ConsumerRecord, KeyRecord

# No API key can hold a NUL, so no key's digest can be this one.
_LABEL = "keywright\0identity token"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256 (SEC 2 section 2.4.2)."""
KEPT = 10_000


class IdentitySigner:
    """Makes tokens; each is given out for a quarter of its life, so that a key in use costs few signatures."""

    def __init__(self, pem: bytes, *, issuer: str, seconds: int, clock: Callable[[], int]) -> None:
        """`clock` gives milliseconds since the epoch. Raises ValueError if the PEM is no private key on P-256."""
        key = ECKey.import_key(pem)
        if not key.is_private or key.curve_name != "P-256":
            raise ValueError("not a private key on the curve P-256")
        self._key = key
        self._issuer = issuer
        self._seconds = seconds
        self._clock = clock
        self._header = {"alg": "ES256", "typ": "JWT", "kid": key.thumbprint()}
        self._kept: dict[tuple[str, str], tuple[int, KeyRecord, ConsumerRecord, bytes]] = {}
        public = {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}
        self.jwks = msgspec.json.encode({"keys": [public]})

    def sign(self, bucket: str, key: KeyRecord, consumer: ConsumerRecord) -> bytes:
        """A token that says whose key it is, for backends of this bucket. It never outlives the key."""
        now = self._clock()
        kept = self._kept.get((bucket, key.key_id))
        if kept is not None:
            made_at, for_key, for_consumer, token = kept
            is_fresh = 0 <= now - made_at < self._seconds * 250
            if is_fresh and for_key == key and for_consumer == consumer:
                return token
        token = self._sign(bucket, key, consumer, now)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[bucket, key.key_id] = (now, key, consumer, token)
        return token

    def _sign(self, bucket: str, key: KeyRecord, consumer: ConsumerRecord, now: int) -> bytes:
        end = now // 1000 + self._seconds
        powers = key.powers or NO_POWERS
        of_key: dict[str, object] = {"id": key.key_id}
        if powers.metadata is not None:
            of_key["metadata"] = json.loads(powers.metadata)
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": bucket,
            "sub": consumer.name,
            "data": json.loads(consumer.metadata),
            "consumer": {"id": consumer.consumer_id},
            "key": of_key,
            "iat": now // 1000,
            "exp": end if key.expires_at is None else min(end, key.expires_at // 1000),
        }
        granted = list_granted(powers, consumer.powers or NO_POWERS)
        if granted:
            # RFC 8693 section 4.2, as access tokens have it (RFC 9068 section 2.2.3): one text, spaces between.
            claims["scope"] = " ".join(granted)
        return jwt.encode(self._header, claims, self._key).encode()


def key_from_pepper(digester: Digester) -> bytes:
    """The deployment's signing key, as PEM."""
    scalar = int.from_bytes(digester.digest(_LABEL), "big") % (_ORDER - 1) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_signer(
    digester: Digester, *, seconds: int, issuer: str, key_file: Path | None, clock: Callable[[], int]
) -> IdentitySigner:
    """Raises KeyFileError."""
    if key_file is None:
        return IdentitySigner(key_from_pepper(digester), issuer=issuer, seconds=seconds, clock=clock)
    _, text = text_of(None, "KEYWRIGHT_IDENTITY_KEY_FILE", key_file)
    try:
        return IdentitySigner(text.encode(), issuer=issuer, seconds=seconds, clock=clock)
    except (ValueError, JoseError) as error:
        raise KeyFileError(f"the identity key in {key_file} is not a private key on P-256, as PEM") from error
