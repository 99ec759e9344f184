"""Owns how a page is made: the template engine, how values are written, and the headers that keep a page safe."""

from __future__ import annotations

import json
import secrets
from asyncio import to_thread
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from keywright import __version__
from keywright.domain import keyformat
from keywright.domain.limits import LimitScope, RateLimit
from keywright.domain.models import to_iso
from keywright.origin.web import assets

if TYPE_CHECKING:
    from jinja2 import Environment

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    # Not no-referrer: with that a browser sends `Origin: null` with forms (Fetch section 3.1), which tells us nothing.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}

_WINDOWS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
_UNITS = ((60, "second"), (60, "minute"), (24, "hour"), (30, "day"), (12, "month"), (None, "year"))


@cache
def environment() -> Environment:
    """The engine with all that templates may use. Loaded by the first page that needs it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(assets.HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(assets=assets.urls(), version=__version__, new_form=new_form)
    made.filters.update(
        iso=to_iso,
        day=day,
        moment=moment,
        ago=ago,
        mask=keyformat.mask,
        pretty=pretty,
        number=number,
        said=said,
        rate=rate,
    )
    return made


async def render(template: str, values: dict[str, Any]) -> bytes:
    """In a thread: validations go on meanwhile."""
    return await to_thread(lambda: environment().get_template(template).render(values).encode())


def new_form() -> str:
    """A number for a form, by which it is known when it is sent twice."""
    return secrets.token_urlsafe(16)


def day(when: datetime) -> str:
    return f"{when.day} {when:%b %Y}"


def moment(when: datetime) -> str:
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def ago(when: datetime, now: datetime) -> str:
    """`3 days ago`, `in 5 minutes`."""
    amount = (now.astimezone(UTC) - when.astimezone(UTC)).total_seconds()
    is_past, left = amount >= 0, abs(amount)
    for size, unit in _UNITS:
        if size is None or left < size:
            count = int(left)
            if unit == "second" and count < 5:
                return "just now" if is_past else "in a moment"
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{words} ago" if is_past else f"in {words}"
        left /= size
    raise AssertionError("the last unit has no end")


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def number(value: int) -> str:
    """In groups of three: 100,000."""
    return f"{value:,}"


def rate(limit: RateLimit) -> str:
    """`600 per minute`, `5 per second at each edge`, `100 in 15 s`."""
    where = " at each edge" if limit.scope is LimitScope.EDGE else ""
    window = _WINDOWS.get(limit.window_seconds)
    return f"{limit.limit:,} {f'per {window}' if window else f'in {limit.window_seconds:,} s'}{where}"


def said(message: str) -> str:
    """What is wrong with a field, as a sentence: `is required` -> `Is required.`"""
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "…")) else ".")
