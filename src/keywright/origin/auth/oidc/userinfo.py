"""Owns the question whose mailbox a user has, asked of the provider where a token does not tell it.

OpenID Connect Core 1.0 section 5.3. Many providers keep the e-mail address out of access tokens. The answer is kept for
a while, also that there is none; whoever has no answer goes on without an address.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from keywright.origin.auth.oidc import tokens
from keywright.origin.auth.oidc.provider import PAUSE_SECONDS, AnswerRefused, Provider, ProviderUnavailable, fetch_json

log = logging.getLogger("keywright.oidc")

KEPT_SECONDS = 600
NONE_KEPT_SECONDS = 60
MOST_KEPT = 10_000


class UserInfo:
    """What the provider's userinfo endpoint says, by access token. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()
        self._paused_until = 0.0

    async def find_verified_email(self, provider: Provider, token: str, sub: str) -> str | None:
        """The verified address of the user whose good token this is; None where the provider tells none."""
        digest = hashlib.sha256(token.encode()).digest()
        good_until, email = self._kept.get(digest, (0.0, None))
        now = self._clock()
        if now < good_until or now < self._paused_until:
            return email if now < good_until else None
        try:
            email = await ask(provider, token, sub)
        except AnswerRefused:
            # A token that is not for this endpoint: it will not be in a second, either.
            email = None
        except ProviderUnavailable as error:
            log.warning("the identity provider's userinfo can't be used: %s", error)
            # Nobody else waits for it meanwhile.
            self._paused_until = self._clock() + PAUSE_SECONDS
            return None
        self._kept[digest] = (self._clock() + (KEPT_SECONDS if email else NONE_KEPT_SECONDS), email)
        self._kept.move_to_end(digest)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return email


async def ask(provider: Provider, token: str, sub: str) -> str | None:
    """Asks at once. Raises ProviderUnavailable."""
    endpoint = (await provider.published()).userinfo_endpoint
    if endpoint is None:
        return None
    answer = await fetch_json(endpoint, bearer=token)
    # Section 5.3.2: the answer of another user's token must not be taken for this one's.
    if not isinstance(answer, dict) or answer.get("sub") != sub:
        return None
    return tokens.verified_email(answer)
