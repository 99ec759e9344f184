"""What is kept of the identity provider: renewed when it must be, good while the provider is away, never garbage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from keywright.origin.auth.oidc import provider as oidc
from keywright.origin.auth.oidc import tokens
from keywright.origin.auth.oidc.provider import PAUSE_SECONDS, RENEW_SECONDS, Provider, ProviderUnavailable
from keywright.origin.auth.oidc.tokens import TokenRefused
from origin.self_serve.world import World
from support.identity import AUDIENCE, IdentityProvider

pytestmark = pytest.mark.asyncio(loop_scope="session")

DISCOVERY = "/.well-known/openid-configuration"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked(provider: IdentityProvider, clock: Clock) -> Provider:
    return Provider(provider.url, clock=clock)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.ERROR):
        yield


async def kids(asked: Provider, kid: str | None = None) -> list[object]:
    return [key.get("kid") for key in await asked.find_keys(kid)]


async def test_many_requests_at_once_ask_once(provider: IdentityProvider, asked: Provider) -> None:
    await asyncio.gather(*(asked.find_keys("first") for _ in range(20)))
    assert provider.asked == [DISCOVERY, "/jwks"]


async def test_a_new_key_is_found_as_soon_as_a_token_names_it(
    provider: IdentityProvider, asked: Provider, clock: Clock
) -> None:
    assert await kids(asked, "first") == ["first"]
    provider.add_key("second", "ES")
    clock.now += PAUSE_SECONDS
    assert await kids(asked, "second") == ["second"]


async def test_a_name_that_comes_back_with_another_key_is_fetched_once_more(
    provider: IdentityProvider, asked: Provider, clock: Clock
) -> None:
    provider.add_key("rotated", "ES")
    old = provider.keys["rotated"]

    async def judge(token: str) -> str:
        try:
            await tokens.verify(token, asked, {AUDIENCE}, datetime.now(UTC))
        except TokenRefused:
            return "refused"
        return "good"

    assert await judge(provider.token(kid="rotated", alg="ES256")) == "good"
    provider.add_key("rotated", "ES")
    # A moment after the last fetch there is none.
    assert await judge(provider.token(kid="rotated", alg="ES256")) == "refused"
    clock.now += PAUSE_SECONDS
    assert await judge(provider.token(kid="rotated", alg="ES256")) == "good"
    asked_before = len(provider.asked)
    clock.now += PAUSE_SECONDS
    provider.keys["rotated"], new = old, provider.keys["rotated"]
    forged = provider.token(kid="rotated", alg="ES256")
    provider.keys["rotated"] = new
    for _ in range(20):
        assert await judge(forged) == "refused"
    assert len(provider.asked) == asked_before + 2


async def test_unknown_names_do_not_make_a_flood_of_questions(provider: IdentityProvider, asked: Provider) -> None:
    for number in range(50):
        assert await kids(asked, f"unknown-{number}") == []
    assert len(provider.asked) == 2


async def test_a_key_that_was_withdrawn_is_gone_after_the_renewal(
    provider: IdentityProvider, asked: Provider, clock: Clock
) -> None:
    provider.add_key("leaked", "ES")
    assert await kids(asked, "leaked") == ["leaked"]
    del provider.keys["leaked"]
    clock.now += RENEW_SECONDS
    await asked.published()
    assert asked._renewal is not None
    await asked._renewal
    assert await kids(asked, "leaked") == []


@pytest.mark.parametrize("path", [DISCOVERY, "/jwks"])
@pytest.mark.parametrize(
    "answer", [(500, b"oh"), (200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"keys": [{}]}'),
               (200, b"[" * 99_999)],
    ids=["down", "a page", "a list", "empty", "no key", "nested"],
)  # fmt: skip
async def test_keys_are_kept_while_the_provider_is_down_or_answers_garbage(
    provider: IdentityProvider, asked: Provider, clock: Clock, path: str, answer: tuple[int, bytes]
) -> None:
    await asked.find_keys("first")
    provider.broken[path] = answer
    clock.now += RENEW_SECONDS
    assert await kids(asked, "first") == ["first"]
    assert asked._renewal is not None
    await asked._renewal
    assert await kids(asked, "first") == ["first"]


async def test_a_provider_that_was_never_reached_is_asked_again_after_a_pause(
    provider: IdentityProvider, asked: Provider, clock: Clock
) -> None:
    provider.broken[DISCOVERY] = (500, b"")
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            await asked.find_keys("first")
    assert len(provider.asked) == 1
    provider.broken.clear()
    clock.now += PAUSE_SECONDS
    assert await kids(asked, "first") == ["first"]


async def test_who_answers_for_another_issuer_is_not_believed(provider: IdentityProvider) -> None:
    with pytest.raises(ProviderUnavailable, match="calls itself"):
        await Provider(provider.url + "/").published()


async def test_an_address_without_tls_is_not_asked(provider: IdentityProvider, asked: Provider) -> None:
    document = f'{{"issuer": "{provider.url}", "jwks_uri": "http://192.0.2.1/jwks"}}'
    provider.broken[DISCOVERY] = (200, document.encode())
    with pytest.raises(ProviderUnavailable, match="not an https address"):
        await asked.published()


async def test_an_endless_answer_is_cut(provider: IdentityProvider, asked: Provider) -> None:
    provider.broken["/jwks"] = (200, b" " * (oidc.MAX_ANSWER_BYTES + 1))
    with pytest.raises(ProviderUnavailable, match="more than"):
        await asked.published()


async def test_keys_that_are_not_for_signatures_are_passed_over(provider: IdentityProvider, asked: Provider) -> None:
    entry = provider.published_keys()["keys"][0]
    keys = [
        {**entry, "use": "enc", "kid": "sealing"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": "RSA"},
        7,
        entry,
    ]
    import json

    provider.broken["/jwks"] = (200, json.dumps({"keys": keys}).encode())
    assert await kids(asked) == ["first"]


async def test_a_user_of_a_provider_that_is_down_is_told_so_and_nothing_changes(quick: World) -> None:
    made = await quick.new_consumer()
    quick.provider.broken[DISCOVERY] = (503, b"")
    problem = await quick.call("POST", f"{quick.by_name}/{made['name']}/roll", json={}, expect=503)
    assert "identity provider" in problem["detail"]
    assert await quick.service.verdict(made["apiKeys"][0]["key"]) == "VALID"
