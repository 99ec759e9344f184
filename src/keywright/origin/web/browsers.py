"""Owns how one browser is told from others before anybody has signed in: by tokens that only we can have made.

A visitor's token binds forms to the browser that they were shown in. A known browser's says that somebody signed in
there once, and as whom, so that it need not stand in line with strangers; it lets nobody in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from keywright.domain.keyformat import Digester
from keywright.origin.auth.sessions import new_token


def new_visitor(digester: Digester, random_bytes: Callable[[int], bytes]) -> str:
    return _signed(digester, "visitor", new_token(random_bytes).reveal())


def is_visitor(digester: Digester, token: str) -> bool:
    """Whether the token is one that we gave away. Anybody may invent another, and would be a new browser each time."""
    return _is_signed(digester, "visitor", token)


def new_known(digester: Digester, random_bytes: Callable[[int], bytes], portal: str, subject: str) -> str:
    """The token of a browser in which `subject` has signed in to a portal; empty for whoever holds a key."""
    return _signed(digester, f"known\n{portal}\n{subject}", new_token(random_bytes).reveal())


def known_as(digester: Digester, token: str, portal: str, subject: str) -> str:
    """The token, if it says that `subject` has signed in with this browser; else empty."""
    return token if _is_signed(digester, f"known\n{portal}\n{subject}", token) else ""


def _signed(digester: Digester, about: str, text: str) -> str:
    # Apart from the digests of keys, sessions and links: none of them passes for another.
    return f"{text}.{digester.digest(f'keywright browser {about}{chr(10)}{text}').hex()}"


def _is_signed(digester: Digester, about: str, token: str) -> bool:
    text, _, mac = token.rpartition(".")
    if not text or not mac or len(token) > 200 or not token.isascii():
        return False
    return hmac.compare_digest(token.encode(), _signed(digester, about, text).encode())
