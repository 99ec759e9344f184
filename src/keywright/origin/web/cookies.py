"""Owns the cookies of the portals: their names, their flags, and what is drawn from a session's token.

A browser keeps a `__Host-` cookie only if it came over TLS, for this host and no other, so that no neighbour under the
same domain can plant one. Without TLS, as on one's own machine, the same cookies have plain names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

THEMES = ("system", "light", "dark")
THEME = "keywright-theme"
VISITOR = "keywright-visitor"
"""Tells the browser of a stranger from others, so that the form that it is shown is the form that it sends."""
YEAR_SECONDS = 365 * 24 * 3600


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS. TLS that ends at a proxy is still TLS."""
    return request.scope["scheme"] == "https" or request.headers.get("x-forwarded-proto", "").lower() == "https"


def read(request: Request, name: str) -> str:
    return request.cookies.get(_full(request, name), "")


def write(request: Request, response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """Without `seconds` the browser forgets it when it is closed."""
    response.set_cookie(
        _full(request, name),
        value,
        max_age=seconds,
        path="/",
        secure=is_secure(request),
        httponly=True,
        # Lax, not Strict: who follows a link from a mail or a wiki is still signed in. Forms carry tokens besides.
        samesite="lax",
    )


def delete(request: Request, response: Response, name: str) -> None:
    response.delete_cookie(_full(request, name), path="/", secure=is_secure(request), httponly=True, samesite="lax")


def theme_of(request: Request) -> str:
    """What the reader chose; `system` is what the device prefers."""
    theme = read(request, THEME)
    return theme if theme in THEMES else "system"


def csrf_of(token: str) -> str:
    """What a form must carry to be taken: only a page that was made for this session knows it."""
    return _mac(token, b"form")


@dataclass(frozen=True, slots=True)
class Flash:
    """What has happened, told on the next page, with the way on or back if there is one."""

    text: str
    href: str = ""
    link: str = ""
    kind: str = "done"
    """`done` or `warning`."""


def write_flash(request: Request, response: Response, name: str, token: str, flash: Flash) -> None:
    """The message waits in a cookie that only this session can have made."""
    fields = [flash.text, flash.href, flash.link, flash.kind]
    body = base64.urlsafe_b64encode(json.dumps(fields).encode())
    write(request, response, name, f"{body.decode()}.{_mac(token, b'notice' + body)}", seconds=120)


def read_flash(request: Request, name: str, token: str) -> Flash | None:
    body, _, mac = read(request, name).partition(".")
    if not mac or not hmac.compare_digest(mac.encode(), _mac(token, b"notice" + body.encode()).encode()):
        return None
    fields: list[Any] = json.loads(base64.urlsafe_b64decode(body))
    return Flash(*fields)


def _full(request: Request, name: str) -> str:
    return f"__Host-{name}" if is_secure(request) else name


def _mac(token: str, about: bytes) -> str:
    digest = hmac.digest(token.encode(), b"keywright portal " + about, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
