"""A token proves who somebody is only if everything about it is right."""

from __future__ import annotations

import base64
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from origin.self_serve.world import World
from support.identity import ADA, IdentityProvider

pytestmark = pytest.mark.asyncio(loop_scope="session")


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(provider: IdentityProvider) -> str:
    claims = {"iss": provider.url, "aud": "keywright-tests", "exp": time.time() + 600, **ADA}
    return f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': 'first'})}.{encoded(claims)}."


def signed_with_the_public_key(provider: IdentityProvider) -> str:
    """HS256 under the text of the public key: what a verifier that trusts the header would take."""
    key = provider.keys["first"]
    assert isinstance(key, RSAKey)
    claims = {"iss": provider.url, "aud": "keywright-tests", "exp": int(time.time()) + 600, **ADA}
    signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(claims)}"
    mac = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def of_another_key(provider: IdentityProvider) -> str:
    claims = {"iss": provider.url, "aud": "keywright-tests", "exp": int(time.time()) + 600, **ADA}
    return provider.sign(claims, {"alg": "RS256", "kid": "first"}, RSAKey.generate_key(2048))


def changed(provider: IdentityProvider) -> str:
    head, _, signature = provider.token().split(".")
    claims = {"iss": provider.url, "aud": "keywright-tests", "exp": time.time() + 600, **ADA, "sub": "auth0|bob"}
    return f"{head}.{encoded(claims)}.{signature}"


REFUSED = {
    "no JWT": lambda p: "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009",
    "two parts": lambda p: "e30.e30",
    "header that is no JSON": lambda p: "!!!!.e30.AAAA",
    "header that is a list": lambda p: "W10.e30.AAAA",
    "alg none": unsigned,
    "HS256 under the public key": signed_with_the_public_key,
    "another key of the same name": of_another_key,
    "claims changed": changed,
    "signature cut": lambda p: p.token().rsplit(".", 1)[0] + ".",
    "another issuer": lambda p: p.token(iss="https://evil.example.com"),
    "issuer with a slash more": lambda p: p.token(iss=p.url + "/"),
    "no issuer": lambda p: p.token(iss=None),
    "another audience": lambda p: p.token(aud="somebody-else"),
    "audience of others": lambda p: p.token(aud=["a", "b"]),
    "no audience": lambda p: p.token(aud=None),
    "several audiences, of another client": lambda p: p.token(aud=["keywright-tests", "other"], azp="other"),
    "several audiences, an odd client": lambda p: p.token(aud=["keywright-tests", "other"], azp=["keywright-tests"]),
    "expired": lambda p: p.token(exp=int(time.time()) - 31),
    "no end": lambda p: p.token(exp=None),
    "end that is a text": lambda p: p.token(exp="2099"),
    "end that is true": lambda p: p.token(exp=True),
    "end that is no number": lambda p: p.token(exp=float("nan")),
    "not yet": lambda p: p.token(nbf=int(time.time()) + 120),
    "of the future": lambda p: p.token(iat=int(time.time()) + 120),
    "no subject": lambda p: p.token(sub=None),
    "subject that is a number": lambda p: p.token(sub=7),
    "subject with a line feed": lambda p: p.token(sub="a\nb"),
    "a logout token": lambda p: p.sign(
        {"iss": p.url, "aud": "keywright-tests", "exp": int(time.time()) + 600, **ADA},
        {"alg": "RS256", "kid": "first", "typ": "logout+jwt"},
        p.keys["first"],
    ),
    "very long": lambda p: p.token(padding="x" * 20_000),
}


async def test_a_token_that_proves_nothing_is_refused(quick: World) -> None:
    await quick.new_consumer()
    for about, make in REFUSED.items():
        token = make(quick.provider)
        problem = await quick.call("GET", f"{quick.by_name}/my", token=token, expect=401)
        assert problem["detail"].startswith("The token is refused: "), about
        assert token not in str(problem), about
    await quick.call("GET", f"{quick.by_name}/my")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["keywright-tests", "other"], "azp": "keywright-tests"},
        {"aud": ["keywright-tests", "other"], "azp": "developer-portal"},
        {"aud": ["keywright-tests", "other"], "azp": "spa"},
        {"aud": ["keywright-tests", "other"]},
        # Auth0 adds its userinfo endpoint to every access token of a browser's.
        {"aud": ["keywright-tests", "{issuer}/userinfo"], "azp": "any-spa"},
        {"aud": "keywright-tests", "azp": "any-spa"},
    ],
    ids=str,
)
async def test_of_several_audiences_a_client_that_is_ours_may_hold_the_token(
    quick: World, claims: dict[str, Any]
) -> None:
    state = quick.service.app._origin.state
    end_users = state.services.end_users
    aud = claims["aud"]
    given = [one.replace("{issuer}", quick.provider.url) for one in aud] if isinstance(aud, list) else aud
    # As KEYWRIGHT_OIDC_AUTHORIZED_PARTIES and the client id name them.
    parties = frozenset({"spa", "developer-portal"})
    state.services = replace(state.services, end_users=replace(end_users, parties=parties))
    try:
        await quick.call("GET", f"{quick.by_name}/my", token=quick.provider.token(**{**claims, "aud": given}))
    finally:
        state.services = replace(state.services, end_users=end_users)


async def test_a_refusal_names_the_scheme_and_no_token_is_asked_for_plainly(quick: World) -> None:
    for authorization, error in [(None, ""), ("Basic YTpi", ""), ("Bearer e30.e30.e30", 'error="invalid_token"')]:
        headers = {"Authorization": authorization} if authorization else {"Authorization": ""}
        answer = await quick.service.client.get(f"{quick.by_name}/my", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert error in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "false"},
        {"email_verified": 1},
        {"email": None},
        {"email": "nobody"},
        {"email": ["ada@example.com"]},
        {"email": "\u212aate@example.com"},
        {"email": "victim(1)@example.com"},
        {"email": '"victim"@example.com'},
    ],
    ids=str,
)
async def test_a_user_without_a_verified_address_uses_what_they_manage_and_no_more(
    quick: World, claims: dict[str, Any]
) -> None:
    await quick.allow(createConsumers=True)
    made = await quick.new_consumer()
    await quick.service.new_consumer(managers=[quick.bob["email"]])
    token = quick.provider.token({**quick.ada, **claims})
    assert [one["name"] for one in (await quick.call("GET", f"{quick.by_name}/my", token=token))["data"]] == [
        made["name"]
    ]
    await quick.call("POST", f"{quick.by_name}/{made['name']}/roll", token=token, json={}, expect=204)
    problem = await quick.call("POST", f"{quick.by_name}/my", token=token, json={}, expect=403)
    assert "verified e-mail address" in problem["detail"]
    # An invite of that address stays open.
    other = quick.provider.token({**quick.bob, **claims})
    assert (await quick.call("GET", f"{quick.by_name}/my", token=other))["data"] == []


async def test_userinfo_supplies_the_verified_address_and_is_asked_once(quick: World) -> None:
    await quick.allow(createConsumers=True)
    made = await quick.service.new_consumer(managers=[quick.ada["email"]])
    quick.provider.userinfo = quick.ada
    token = quick.provider.token({"sub": quick.ada["sub"]})
    for _ in range(3):
        found = await quick.call("GET", f"{quick.by_name}/my", token=token)
        assert [one["name"] for one in found["data"]] == [made["name"]]
    await quick.call("POST", f"{quick.by_name}/my", token=token, json={})
    assert quick.provider.shown == [f"Bearer {token}"]


@pytest.mark.parametrize(
    "told",
    [None, {}, {"sub": "auth0|somebody-else"}, {"email_verified": False}, {"email": None}, {"email": "a(1)@b.c"}],
    ids=str,
)
async def test_userinfo_that_tells_no_address_of_this_user_accepts_no_invite(quick: World, told: Any) -> None:
    await quick.service.new_consumer(managers=[quick.ada["email"]])
    quick.provider.userinfo = None if told is None else {**quick.ada, **told} if told else {}
    token = quick.provider.token({"sub": quick.ada["sub"]})
    for _ in range(2):
        assert (await quick.call("GET", f"{quick.by_name}/my", token=token))["data"] == []
    assert len(quick.provider.shown) == 1


async def test_userinfo_that_is_down_holds_nobody_up(quick: World) -> None:
    made = await quick.new_consumer()
    quick.provider.broken["/userinfo"] = (500, b"")
    for number in range(5):
        token = quick.provider.token({"sub": quick.ada["sub"]}, jti=str(number))
        found = await quick.call("GET", f"{quick.by_name}/my", token=token)
        assert [one["name"] for one in found["data"]] == [made["name"]]
    assert len(quick.provider.shown) == 1


@pytest.mark.parametrize("aud", [None, "somebody-else", ["a", "b"]], ids=str)
async def test_without_an_audience_by_choice_a_token_is_taken_whoever_it_is_for(quick: World, aud: Any) -> None:
    state = quick.service.app._origin.state
    end_users = state.services.end_users
    token = quick.provider.token(quick.ada, aud=aud)
    await quick.call("GET", f"{quick.by_name}/my", token=token, expect=401)
    state.services = replace(state.services, end_users=replace(end_users, audiences=None))
    try:
        await quick.call("GET", f"{quick.by_name}/my", token=token)
        await quick.call("GET", f"{quick.by_name}/my", token=quick.provider.token(aud=aud, iss="https://x"), expect=401)
    finally:
        state.services = replace(state.services, end_users=end_users)


ACCEPTED = {
    "audience among others": lambda p: p.token(aud=["other", "keywright-tests"]),
    "verified as a text": lambda p: p.token(email_verified="true"),
    "expired within the leeway": lambda p: p.token(exp=int(time.time()) - 10),
    "clock a little ahead": lambda p: p.token(nbf=int(time.time()) + 10, iat=int(time.time()) + 10),
    "RS512": lambda p: p.token(alg="RS512"),
    "PS256": lambda p: p.token(alg="PS256"),
    "ES256": lambda p: p.token(kid="curve", alg="ES256"),
    "EdDSA": lambda p: p.token(kid="edwards", alg="EdDSA"),
    "Ed25519": lambda p: p.token(kid="edwards", alg="Ed25519"),
    "no kid": lambda p: p.sign(
        {"iss": p.url, "aud": "keywright-tests", "exp": int(time.time()) + 600, **ADA},
        {"alg": "ES256"},
        p.keys["curve"],
    ),
    "an access token": lambda p: p.sign(
        {"iss": p.url, "aud": "keywright-tests", "exp": int(time.time()) + 600, **ADA},
        {"alg": "RS256", "kid": "first", "typ": "at+jwt"},
        p.keys["first"],
    ),
}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_a_good_token_is_taken_whatever_the_provider_signs_with(quick: World) -> None:
    quick.provider.add_key("curve", "ES")
    quick.provider.add_key("edwards", "Ed")
    for make in ACCEPTED.values():
        await quick.call("GET", f"{quick.by_name}/my", token=make(quick.provider))


async def test_a_flood_of_one_user_is_slowed_down_and_not_another_user(quick: World) -> None:
    from dataclasses import replace as changed_copy

    from keywright.origin.pipeline.rate_limit import RateLimiter

    state = quick.service.app._origin.state
    whole = state.services
    state.services = changed_copy(whole, end_user_rate=RateLimiter(1))
    try:
        await quick.call("GET", f"{quick.by_name}/my")
        headers = {"Authorization": f"Bearer {quick.provider.token(quick.ada)}"}
        answer = await quick.service.client.get(f"{quick.by_name}/my", headers=headers)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        await quick.call("GET", f"{quick.by_name}/my", quick.bob)
    finally:
        state.services = whole


async def test_without_a_provider_the_api_says_so(embedded: Any) -> None:
    problem = await embedded.call("GET", f"/v1/self-serve/{embedded.bucket}/consumers/my", expect=404)
    assert "KEYWRIGHT_OIDC_ISSUER" in problem["detail"]
    await embedded.call("POST", f"/v2/client/{embedded.bucket}/consumers/any/roll-key", json={}, expect=404)
