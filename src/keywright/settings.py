"""Owns the settings: KEYWRIGHT_* variables and the flags that stand for them. Read by cli, serve and the two app.py."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from keywright.core.keyformat import Secret, is_possible

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_DATA_DIR = "./keywright-data"
DEFAULT_EDGE_DATA_DIR = "./keywright-edge"


class SettingsError(Exception):
    """A setting that can't be used; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """What `keywright serve` and the commands beside it need to know.

    `pepper` and `master_key` are texts that were given as variables, or None: then they are files in `data_dir`.
    """

    host: str
    port: int
    data_dir: Path
    database_url: str
    workers: int
    bootstrap_account: str | None
    bootstrap_key: Secret | None
    pepper: Secret | None
    pepper_file: Path
    master_key: Secret | None
    master_key_file: Path
    management_rate_limit: float
    metadata_bytes: int
    tags: int
    validation_token_required: bool
    forward_auth_header: str
    forward_auth_scheme: str
    grpc_port: int | None
    identity_token_seconds: int
    identity_issuer: str
    identity_key_file: Path | None
    log_level: str
    environment: Mapping[str, str] = field(repr=False)
    """What a worker process needs in its environment to load these same settings."""

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def replica_dir(self) -> Path:
        return self.data_dir / "replica"

    @classmethod
    def load(
        cls,
        *,
        host: str | None = None,
        port: int | None = None,
        data_dir: str | Path | None = None,
        database_url: str | None = None,
        workers: int | None = None,
        grpc_port: int | None = None,
    ) -> OriginSettings:
        """Settings from flags (None: not given) and variables. Raises SettingsError."""
        given = {
            "KEYWRIGHT_HOST": host,
            "KEYWRIGHT_PORT": port,
            "KEYWRIGHT_DATA_DIR": data_dir,
            "KEYWRIGHT_DATABASE_URL": database_url,
            "KEYWRIGHT_WORKERS": workers,
            "KEYWRIGHT_GRPC_PORT": grpc_port,
        }
        flags = {name: str(value) for name, value in given.items() if value is not None}
        source = _Source({**os.environ, **flags})
        data = Path(source.text("KEYWRIGHT_DATA_DIR", DEFAULT_DATA_DIR)).expanduser().absolute()
        bootstrap_key = source.secret("KEYWRIGHT_BOOTSTRAP_KEY")
        if bootstrap_key is not None and not is_possible(bootstrap_key.reveal()):
            message = "8 to 512 printable ASCII characters without spaces, and no generated key that was mistyped"
            raise SettingsError(f"KEYWRIGHT_BOOTSTRAP_KEY must be {message}")
        return cls(
            host=source.text("KEYWRIGHT_HOST", DEFAULT_HOST),
            port=source.whole("KEYWRIGHT_PORT", DEFAULT_PORT, 1, 65535),
            data_dir=data,
            database_url=_database_url(source.text("KEYWRIGHT_DATABASE_URL", ""), data),
            workers=source.whole("KEYWRIGHT_WORKERS", 1, 1, 256),
            bootstrap_account=source.optional("KEYWRIGHT_BOOTSTRAP_ACCOUNT"),
            bootstrap_key=bootstrap_key,
            pepper=source.secret("KEYWRIGHT_PEPPER"),
            pepper_file=Path(source.text("KEYWRIGHT_PEPPER_FILE", str(data / "pepper.key"))).absolute(),
            master_key=source.secret("KEYWRIGHT_MASTER_KEY"),
            master_key_file=Path(source.text("KEYWRIGHT_MASTER_KEY_FILE", str(data / "master.key"))).absolute(),
            management_rate_limit=source.whole("KEYWRIGHT_MANAGEMENT_RATE_LIMIT", 100, 0, 1_000_000),
            metadata_bytes=source.whole("KEYWRIGHT_METADATA_BYTES", 1024, 2, 65536),
            tags=source.whole("KEYWRIGHT_TAGS", 5, 0, 100),
            validation_token_required=source.flag("KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
            forward_auth_header=source.text("KEYWRIGHT_FORWARD_AUTH_HEADER", "authorization"),
            forward_auth_scheme=source.any_text("KEYWRIGHT_FORWARD_AUTH_SCHEME", "Bearer"),
            grpc_port=source.whole("KEYWRIGHT_GRPC_PORT", 0, 0, 65535) or None,
            identity_token_seconds=source.whole("KEYWRIGHT_IDENTITY_TOKEN_SECONDS", 0, 0, 3600),
            identity_issuer=source.text("KEYWRIGHT_IDENTITY_ISSUER", "keywright"),
            identity_key_file=source.path("KEYWRIGHT_IDENTITY_KEY_FILE"),
            log_level=source.choice("KEYWRIGHT_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            environment=flags,
        )


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What `keywright edge` needs to know. `token` is a management key that may follow the feed."""

    origin: str
    token: Secret
    name: str
    host: str
    port: int
    data_dir: Path
    workers: int
    pepper: Secret | None
    pepper_file: Path
    validation_token_required: bool
    forward_auth_header: str
    forward_auth_scheme: str
    grpc_port: int | None
    identity_token_seconds: int
    identity_issuer: str
    identity_key_file: Path | None
    haproxy: Path | None
    haproxy_lease_seconds: int
    log_level: str
    environment: Mapping[str, str] = field(repr=False)
    """What a worker process needs in its environment to load these same settings."""

    @property
    def replica_dir(self) -> Path:
        return self.data_dir / "replica"

    @classmethod
    def load(
        cls,
        *,
        origin: str | None = None,
        host: str | None = None,
        port: int | None = None,
        data_dir: str | Path | None = None,
        workers: int | None = None,
        grpc_port: int | None = None,
        haproxy: str | Path | None = None,
    ) -> EdgeSettings:
        """Settings from flags (None: not given) and variables. Raises SettingsError."""
        given = {
            "KEYWRIGHT_ORIGIN": origin,
            "KEYWRIGHT_HOST": host,
            "KEYWRIGHT_PORT": port,
            "KEYWRIGHT_DATA_DIR": data_dir,
            "KEYWRIGHT_WORKERS": workers,
            "KEYWRIGHT_GRPC_PORT": grpc_port,
            "KEYWRIGHT_HAPROXY": haproxy,
        }
        flags = {name: str(value) for name, value in given.items() if value is not None}
        source = _Source({**os.environ, **flags})
        data = Path(source.text("KEYWRIGHT_DATA_DIR", DEFAULT_EDGE_DATA_DIR)).expanduser().absolute()
        token = source.secret("KEYWRIGHT_EDGE_TOKEN")
        if token is None or not is_possible(token.reveal()):
            raise SettingsError("KEYWRIGHT_EDGE_TOKEN must be a management key whose permissions have feed: true")
        return cls(
            origin=_origin_url(source.text("KEYWRIGHT_ORIGIN", "")),
            token=token,
            name=_edge_name(source.text("KEYWRIGHT_EDGE_NAME", socket.gethostname())),
            host=source.text("KEYWRIGHT_HOST", DEFAULT_HOST),
            port=source.whole("KEYWRIGHT_PORT", DEFAULT_PORT, 1, 65535),
            data_dir=data,
            workers=source.whole("KEYWRIGHT_WORKERS", 1, 1, 256),
            pepper=source.secret("KEYWRIGHT_PEPPER"),
            pepper_file=Path(source.text("KEYWRIGHT_PEPPER_FILE", str(data / "pepper.key"))).absolute(),
            validation_token_required=source.flag("KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
            forward_auth_header=source.text("KEYWRIGHT_FORWARD_AUTH_HEADER", "authorization"),
            forward_auth_scheme=source.any_text("KEYWRIGHT_FORWARD_AUTH_SCHEME", "Bearer"),
            grpc_port=source.whole("KEYWRIGHT_GRPC_PORT", 0, 0, 65535) or None,
            identity_token_seconds=source.whole("KEYWRIGHT_IDENTITY_TOKEN_SECONDS", 0, 0, 3600),
            identity_issuer=source.text("KEYWRIGHT_IDENTITY_ISSUER", "keywright"),
            identity_key_file=source.path("KEYWRIGHT_IDENTITY_KEY_FILE"),
            haproxy=source.path("KEYWRIGHT_HAPROXY"),
            haproxy_lease_seconds=source.whole("KEYWRIGHT_HAPROXY_LEASE_SECONDS", 5, 2, 86_400),
            log_level=source.choice("KEYWRIGHT_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            environment=flags,
        )


class _Source:
    """Variables by name, each read with its own complaint."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def any_text(self, name: str, default: str) -> str:
        return self._variables.get(name, default).strip()

    def text(self, name: str, default: str) -> str:
        return self.any_text(name, default) or default

    def optional(self, name: str) -> str | None:
        return self.any_text(name, "") or None

    def path(self, name: str) -> Path | None:
        text = self.optional(name)
        return None if text is None else Path(text).expanduser().absolute()

    def secret(self, name: str) -> Secret | None:
        text = self.optional(name)
        return Secret(text) if text is not None else None

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
            raise SettingsError(f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}")
        return int(text)

    def flag(self, name: str) -> bool:
        return self.choice(name, "false", ("true", "false", "1", "0", "yes", "no")) in {"true", "1", "yes"}

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.text(name, default).lower()
        if text not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {text[:40]!r}")
        return text


def _edge_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is None:
        raise SettingsError("KEYWRIGHT_EDGE_NAME must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    return text


def _origin_url(given: str) -> str:
    parts = urlsplit(given)
    # A password in a URL would end up in logs; the token is what authenticates.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in given:
        raise SettingsError("KEYWRIGHT_ORIGIN (--origin) must be the origin's address, such as https://keys.internal")
    return given.rstrip("/")


def _database_url(given: str, data_dir: Path) -> str:
    """The URL with the driver that we use; SQLite in the data directory where none is given."""
    if not given:
        return f"sqlite+aiosqlite:///{data_dir / 'keywright.db'}"
    scheme, separator, rest = given.partition("://")
    drivers = {
        "sqlite": "sqlite+aiosqlite",
        "sqlite+aiosqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
        "postgresql+asyncpg": "postgresql+asyncpg",
    }
    if not separator or scheme not in drivers:
        raise SettingsError("KEYWRIGHT_DATABASE_URL must begin with postgresql:// or sqlite://")
    return f"{drivers[scheme]}://{rest}"
