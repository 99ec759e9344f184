"""Owns what the addresses in settings must look like: of the database, the broker, the origin, providers and browsers.

Each is a kind of value (kinds.py). None that may hold a password is repeated in an error.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from keywright.domain.keyformat import Secret
from keywright.domain.text import is_email
from keywright.runtime.settings.kinds import Kind, checked, matching

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
"""The scheme of a database's URL with the driver that we use, by the schemes that are taken."""


def _check_issuer(url: str) -> None:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not is_safe or not parts.hostname or parts.query or parts.fragment or "@" in url:
        message = "must be the issuer exactly as the provider writes it, such as https://id.example.com/realms/main"
        raise ValueError(f"{message}; without TLS it may only be on this machine")


def _parse_public_url(url: str) -> str:
    return _PUBLIC_URL.parse(url).rstrip("/")


def _parse_smtp_url(url: str) -> Secret:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.path.strip("/") or parts.query:
        # The URL itself is not repeated: it may hold a password.
        raise ValueError("must look like smtps://user:password@smtp.example.com:465")
    return Secret(url)


def _parse_origin_url(url: str) -> str:
    parts = urlsplit(url)
    # A password in a URL would end up in logs; the token is what authenticates.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise ValueError("must be the origin's address, such as https://keys.internal")
    return url.rstrip("/")


def _check_broker_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.path or parts.query or "@" in url:
        message = "must be one or more of nats://host:4222 and tls://host:4222 with commas between"
        raise ValueError(f"{message}, without a user: KEYWRIGHT_NATS_USER is for that")


def _parse_database_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in DRIVERS:
        raise ValueError("must begin with postgresql:// or sqlite://")
    return f"{DRIVERS[scheme]}://{rest}"


_PUBLIC_URL = matching(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?/?",
    "where browsers reach this service: https://keys.example.com",
    shown=0,
)


def _check_mail_address(text: str) -> None:
    if not is_email(text):
        raise ValueError("must be an e-mail address, such as keys@example.com")


ISSUER: Kind[str] = checked("https://id.example.com, exactly as the provider writes it", _check_issuer)
PUBLIC_URL: Kind[str] = Kind("https://keys.example.com", _parse_public_url)
SMTP_URL: Kind[Secret] = Kind("smtps://user:password@smtp.example.com:465", _parse_smtp_url, is_secret=True)
MAIL_ADDRESS: Kind[str] = checked("an e-mail address, such as keys@example.com", _check_mail_address)
WEB_ORIGIN: Kind[str] = matching(
    r"\*|https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?",
    "origins between commas, such as https://app.example.com, in lower case and without a path",
    shown=80,
)
ORIGIN_URL: Kind[str] = Kind("https://keys.internal", _parse_origin_url)
BROKER_URL: Kind[str] = checked("nats://host:4222 or tls://host:4222", _check_broker_url)
DATABASE_URL: Kind[str] = Kind("postgresql://user:password@host/database, or sqlite:///path", _parse_database_url)
