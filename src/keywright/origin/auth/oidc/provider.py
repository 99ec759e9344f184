"""Owns what an identity provider publishes of itself: its addresses and signing keys, fetched, kept and renewed.

Answers are kept while the provider is away: keys that were good go on being good. A token that names a key which is not
known has the keys fetched anew, but not more often than every few seconds, whatever tokens strangers send.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

log = logging.getLogger("keywright.oidc")

DISCOVERY = "/.well-known/openid-configuration"
RENEW_SECONDS = 600
PAUSE_SECONDS = 10
"""The least time from one fetch to the next, whether the last one succeeded or not."""

FETCH_SECONDS = 5
MAX_ANSWER_BYTES = 512 * 1024
MAX_KEYS = 100
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Fetch = Callable[[str], Awaitable[Any]]


class ProviderUnavailable(Exception):
    """The identity provider is down, or answers what it must not; the message is for the log."""


class AnswerRefused(ProviderUnavailable):
    """The identity provider answers, but not to this caller."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the provider said of itself. Only `issuer` and `keys` are always there."""

    issuer: str
    keys: tuple[Key, ...]
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    end_session_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    tells_issuer: bool = False
    """Whether it names itself when it sends a browser back (RFC 9207)."""
    takes_secret_in_body: bool = False
    """Whether it wants the client's secret in the form rather than in a header."""


class Provider:
    """One identity provider, by its issuer. `clock` is monotonic, in seconds."""

    def __init__(self, issuer: str, *, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self._fetch = fetch or fetch_json
        self._clock = clock
        self._published: Published | None = None
        self._tried_at: float | None = None
        self._renewed_at = 0.0
        self._asking = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def published(self) -> Published:
        """Raises ProviderUnavailable if the provider was never reached."""
        if self._published is None:
            await self._renew()
        elif self._clock() - self._renewed_at >= RENEW_SECONDS and (self._renewal is None or self._renewal.done()):
            # Beside the requests: none of them waits for a provider that takes its time.
            self._renewal = asyncio.create_task(self._renew())
        if self._published is None:
            raise ProviderUnavailable(f"{self.issuer} was not reached a moment ago")
        return self._published

    async def find_keys(self, kid: str | None) -> list[Key]:
        """The keys that may have signed a token: the one that it names, or all if it names none."""
        found = _named(await self.published(), kid)
        if not found:
            await self._renew()
            found = _named(await self.published(), kid)
        return found

    async def find_keys_anew(self, kid: str | None) -> list[Key]:
        """The same after a fetch, for a token that fits none of those known: a name may come back with another key.

        Where the last fetch was a moment ago there is none, whatever tokens strangers send.
        """
        await self._renew()
        return _named(await self.published(), kid)

    async def _renew(self) -> None:
        seen = self._tried_at
        async with self._asking:
            # Whoever waited in line has the answer of the one before; and nobody asks too often.
            if self._tried_at != seen or (seen is not None and self._clock() - seen < PAUSE_SECONDS):
                return
            self._tried_at = self._clock()
            try:
                self._published = await self._ask()
                self._renewed_at = self._clock()
            except ProviderUnavailable as error:
                log.warning("the identity provider can't be used: %s", error)
                if self._published is None:
                    raise

    async def _ask(self) -> Published:
        document = _object(await self._fetch(self.issuer.rstrip("/") + DISCOVERY), "the discovery document")
        if document.get("issuer") != self.issuer:
            # Else whoever answers at that address could speak for another provider.
            raise ProviderUnavailable(f"it calls itself {str(document.get('issuer'))[:200]!r}, not {self.issuer!r}")
        key_set = _object(await self._fetch(_address(document, "jwks_uri")), "the key set")
        keys = _keys(key_set.get("keys"))
        if not keys:
            raise ProviderUnavailable("its key set holds no key that can be used")
        methods = document.get("token_endpoint_auth_methods_supported")
        return Published(
            self.issuer,
            keys,
            _address(document, "authorization_endpoint") if "authorization_endpoint" in document else None,
            _address(document, "token_endpoint") if "token_endpoint" in document else None,
            _address(document, "end_session_endpoint") if "end_session_endpoint" in document else None,
            _address(document, "userinfo_endpoint") if "userinfo_endpoint" in document else None,
            document.get("authorization_response_iss_parameter_supported") is True,
            # OpenID Connect Discovery 1.0 section 3: where it says nothing, it takes that one.
            isinstance(methods, list) and bool(methods) and "client_secret_basic" not in methods,
        )


async def fetch_json(url: str, *, bearer: str | None = None) -> Any:
    """What stands at an address, as JSON. Raises ProviderUnavailable."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        async with (
            asyncio.timeout(FETCH_SECONDS),
            httpx2.AsyncClient() as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code in {400, 401, 403, 404}:
                raise AnswerRefused(f"{url} answered {response.status_code}")
            if response.status_code != 200:
                raise ProviderUnavailable(f"{url} answered {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderUnavailable(f"{url} answered more than {MAX_ANSWER_BYTES} bytes")
        return json.loads(body)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
        raise ProviderUnavailable(f"{url} can't be reached: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise ProviderUnavailable(f"{url} answered something that is not JSON") from None


def is_safe(url: str) -> bool:
    """Whether nobody on the way could change what is answered there: TLS, or this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))


def _named(published: Published, kid: str | None) -> list[Key]:
    # A provider with a single, nameless key signs for any name.
    return [key for key in published.keys if kid is None or key.get("kid") in {kid, None}]


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ProviderUnavailable(f"{what} is no JSON object")
    return value


def _address(document: Mapping[str, Any], name: str) -> str:
    url = document.get(name)
    if not isinstance(url, str) or not is_safe(url):
        raise ProviderUnavailable(f"its {name} is not an https address")
    return url


def _keys(value: Any) -> tuple[Key, ...]:
    """The public keys for signatures; others, and those that can't be read, are passed over (RFC 7517 section 5)."""
    found = []
    for entry in value[:MAX_KEYS] if isinstance(value, list) else []:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name, ""), str) for name in ("kty", "kid", "alg")
        ):
            continue
        # A symmetric key has no place in a public set: whoever reads it could sign.
        if entry.get("kty") not in {"RSA", "EC", "OKP"} or entry.get("use") == "enc":
            continue
        try:
            found.append(JWKRegistry.import_key(entry))
        except (JoseError, ValueError, TypeError, KeyError):
            # A curve that joserfc doesn't know is a KeyError (findings/joserfc-key-set-with-an-unknown-curve.sh).
            continue
    return tuple(found)
