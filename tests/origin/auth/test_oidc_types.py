"""Whatever type a member of a token, a key set or a discovery document has, the answer is a refusal and never a bug."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from keywright.origin.auth.oidc import tokens
from keywright.origin.auth.oidc.provider import DISCOVERY, Provider, ProviderUnavailable
from keywright.origin.auth.oidc.tokens import TokenRefused

ISSUER = "https://id.example.com"
AUDIENCE = "keywright"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ECKey.generate_key("P-256", {"kid": "first"})
PUBLIC = {**KEY.as_dict(private=False), "use": "sig"}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "email": "ada@example.com", "email_verified": True,
    "exp": NOW.timestamp() + 60, "iat": NOW.timestamp(),
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token", "token_endpoint_auth_methods_supported": ["client_secret_post"],
}  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def token_of(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token with a good signature, and this header whatever it says."""
    signed = jws.serialize_compact({"alg": "ES256", "kid": "first"}, json.dumps(claims).encode(), KEY)
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return signed if header == {"alg": "ES256", "kid": "first"} else f"{head}.{signed.split('.', 1)[1]}"


async def verify(token: str, *, document: Any = None, keys: Any = None) -> str:
    answers = {DISCOVERY: DOCUMENT if document is None else document, "/jwks": {"keys": keys or [PUBLIC]}}

    async def fetch(url: str) -> Any:
        return answers[url.removeprefix(ISSUER)]

    try:
        return (await tokens.verify(token, Provider(ISSUER, fetch=fetch), {AUDIENCE}, NOW)).sub
    except (TokenRefused, ProviderUnavailable) as error:
        return type(error).__name__


GOOD = {"alg": "ES256", "kid": "first"}


async def test_a_good_token_is_good() -> None:
    assert await verify(token_of(GOOD, CLAIMS)) == "ada"


@pytest.mark.parametrize("member", ["alg", "kid", "typ", "crit", "jwk", "x"])
@given(value=anything)
async def test_a_header_of_any_type_is_refused_or_passed_over(member: str, value: Any) -> None:
    assert await verify(token_of({**GOOD, member: value}, CLAIMS)) in {"TokenRefused", "ada"}


@pytest.mark.parametrize("member", sorted(CLAIMS))
@given(value=anything)
async def test_a_claim_of_any_type_is_refused_or_good(member: str, value: Any) -> None:
    found = await verify(token_of(GOOD, {**CLAIMS, member: value}))
    assert found in ("TokenRefused", "ada") or (member == "sub" and found == value)


@pytest.mark.parametrize("member", ["kty", "crv", "kid", "alg", "use", "key_ops", "x", "y", "n", "e"])
@given(value=anything)
async def test_a_published_key_of_any_type_takes_no_other_key_away(member: str, value: Any) -> None:
    odd = {**PUBLIC, "kid": "other", member: value}
    assert await verify(token_of(GOOD, CLAIMS), keys=[odd, PUBLIC]) == "ada"


async def test_a_published_key_on_an_unknown_curve_takes_no_other_key_away() -> None:
    assert await verify(token_of(GOOD, CLAIMS), keys=[{**PUBLIC, "kid": "other", "crv": "BP-256"}, PUBLIC]) == "ada"


@pytest.mark.parametrize("member", sorted({*DOCUMENT, "end_session_endpoint", "userinfo_endpoint"}))
@given(value=anything)
async def test_a_discovery_document_of_any_type_is_unavailable_or_good(member: str, value: Any) -> None:
    found = await verify(token_of(GOOD, CLAIMS), document={**DOCUMENT, member: value})
    assert found in {"ProviderUnavailable", "ada"}
