"""The identity token: what it says, how long, who can check it, and that a bad key file is said at the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK
from endpoints.table import BUCKET, EXPIRING, METADATA, NEVER_MADE, VALID, fill
from keywright.domain.keyformat import Digester
from keywright.domain.powers import decode_powers
from keywright.domain.verdict import ConsumerRecord, KeyRecord
from keywright.edge.identity_token import IdentitySigner, key_from_pepper, load_signer
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.runtime.secret_files import KeyFileError

KEY = KeyRecord("key_1", 1, None)
CONSUMER = ConsumerRecord("csmr_1", "acme", '{"plan":"gold","city":"Zoë"}'.encode())


class Clock:
    now = NOW

    def __call__(self) -> int:
        return self.now


def new_signer(clock: Clock | None = None, digester: Digester = DIGESTER) -> IdentitySigner:
    return IdentitySigner(key_from_pepper(digester), issuer="keywright", seconds=60, clock=clock or Clock())


def decode(token: bytes | str, jwks: bytes) -> jwt.Token:
    return jwt.decode(token, KeySet.import_key_set(json.loads(jwks)), algorithms=["ES256"])


def test_it_says_who_asks_where_and_how_long_that_holds() -> None:
    signer = new_signer()
    token = decode(signer.sign("my-bucket", KEY, CONSUMER), signer.jwks)
    assert token.claims == {
        "iss": "keywright", "aud": "my-bucket", "sub": "acme", "data": {"plan": "gold", "city": "Zoë"},
        "consumer": {"id": "csmr_1"}, "key": {"id": "key_1"}, "iat": NOW // 1000, "exp": NOW // 1000 + 60,
    }  # fmt: skip
    assert b'"d"' not in signer.jwks


def test_it_says_what_the_key_is_good_for_and_its_own_metadata_where_there_are_any() -> None:
    signer = new_signer()
    key = KEY._replace(powers=decode_powers('{"scopes":["orders:*","a","b"],"metadata":{"device":"till"}}'))
    owner = CONSUMER._replace(powers=decode_powers('{"scopes":["orders:read","b"]}'))
    claims = decode(signer.sign("my-bucket", key, owner), signer.jwks).claims
    assert (claims["scope"], claims["key"]) == ("b orders:read", {"id": "key_1", "metadata": {"device": "till"}})
    lost = owner._replace(powers=decode_powers('{"scopes":[]}'))
    # The one that was made before is not given out for what the consumer has lost.
    assert "scope" not in decode(signer.sign("my-bucket", key, lost), signer.jwks).claims


def test_every_edge_with_this_pepper_signs_with_the_same_key_and_no_other_edge_does() -> None:
    one, same, other = new_signer(), new_signer(), new_signer(digester=Digester(b"another pepper of 32 bytes or so"))
    assert one.jwks == same.jwks
    assert decode(one.sign("b", KEY, CONSUMER), same.jwks).claims["sub"] == "acme"
    with pytest.raises(InvalidKeyIdError):
        decode(other.sign("b", KEY, CONSUMER), one.jwks)


def test_it_never_outlives_the_key() -> None:
    signer = new_signer()
    token = decode(signer.sign("b", KEY._replace(expires_at=NOW + 10_500), CONSUMER), signer.jwks)
    assert token.claims["exp"] == NOW // 1000 + 10


def test_a_token_is_kept_for_a_quarter_of_its_life_and_not_beyond_a_change() -> None:
    clock = Clock()
    signer = new_signer(clock)
    first = signer.sign("b", KEY, CONSUMER)
    clock.now += 14_999
    assert signer.sign("b", KEY, CONSUMER) == first
    assert signer.sign("other", KEY, CONSUMER) != first
    assert signer.sign("b", KEY, CONSUMER._replace(metadata=b"{}")) != first
    again = signer.sign("b", KEY, CONSUMER)
    assert again != first
    clock.now += 15_000
    assert decode(signer.sign("b", KEY, CONSUMER), signer.jwks).claims["iat"] == clock.now // 1000
    clock.now -= 60_000
    assert decode(signer.sign("b", KEY, CONSUMER), signer.jwks).claims["iat"] == clock.now // 1000


def test_memory_for_kept_tokens_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keywright.edge.identity_token.KEPT", 3)
    signer = new_signer()
    for number in range(10):
        signer.sign("b", KEY._replace(key_id=f"key_{number}"), CONSUMER)
    assert len(signer._kept) <= 3


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "text",
    ["", "no PEM", _pem(rsa.generate_private_key(65537, 2048)), _pem(ec.generate_private_key(ec.SECP384R1()))],
    ids=["empty", "text", "rsa", "p-384"],
)
def test_a_key_file_that_is_none_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "identity.pem"
    file.write_text(text)
    with pytest.raises(KeyFileError, match="is not a private key on P-256"):
        load_signer(DIGESTER, seconds=60, issuer="i", key_file=file, clock=Clock())


def test_a_key_file_takes_the_place_of_the_pepper(tmp_path: Path) -> None:
    file = tmp_path / "identity.pem"
    file.write_text(_pem(ec.generate_private_key(ec.SECP256R1())))
    signer = load_signer(DIGESTER, seconds=60, issuer="i", key_file=file, clock=Clock())
    assert signer.jwks != new_signer().jwks
    with pytest.raises(KeyFileError, match="is missing"):
        load_signer(DIGESTER, seconds=60, issuer="i", key_file=tmp_path / "none", clock=Clock())


async def test_forward_auth_gives_it_to_good_keys_and_the_edge_shows_its_public_keys(tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    fill(replica)
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    app = new_app(validator, signer=new_signer())
    jwks = (await call(app, "GET", "/.well-known/jwks.json")).body
    for secret in (VALID, EXPIRING):
        asked = [(b"authorization", b"Bearer " + secret.encode())]
        answer = await call(app, "GET", f"/v1/forward-auth/{BUCKET}", headers=asked)
        claims = decode(answer.headers["x-consumer-token"], jwks).claims
        assert (claims["aud"], claims["sub"]) == (BUCKET, "my-consumer")
        assert claims["data"] == json.loads(METADATA)
    asked = [(b"authorization", b"Bearer " + NEVER_MADE.encode())]
    refused = await call(app, "GET", f"/v1/forward-auth/{BUCKET}", headers=asked)
    assert refused.headers["x-consumer-token"] == ""
    without = new_app(validator)
    assert (await call(without, "GET", "/.well-known/jwks.json")).status == 404
    replica.close()
