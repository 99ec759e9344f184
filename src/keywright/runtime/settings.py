"""Owns the settings: KEYWRIGHT_* variables and the flags that stand for them. Read by cli, serve and the two app.py."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keywright.domain import roles
from keywright.domain.identity_headers import IdentityHeaders, is_header_name, rename
from keywright.domain.keyformat import Secret, is_possible
from keywright.protocol.reports import edge_name_of, is_edge_name
from keywright.runtime.nats_options import NatsOptions

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_DATA_DIR = "./keywright-data"
DEFAULT_EDGE_DATA_DIR = "./keywright-edge"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class SettingsError(Exception):
    """A setting that can't be used; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class EndUserSettings:
    """How people sign in: end users, and the provider's own; and what their browsers may do."""

    oidc_issuer: str | None
    oidc_audiences: tuple[str, ...]
    oidc_client_id: str | None
    oidc_client_secret: Secret | None
    admin_roles: Mapping[str, roles.Held]
    """Who of the provider's own people may use the admin portal, by e-mail address."""
    cors_origins: tuple[str, ...]
    rate_limit: float
    public_url: str
    smtp_url: Secret | None
    mail_from: str

    @classmethod
    def of(cls, source: _Source, here: str) -> EndUserSettings:
        """`here` is the address that this service listens on."""
        issuer = source.optional("KEYWRIGHT_OIDC_ISSUER")
        if issuer is not None:
            _check_issuer(issuer)
        client_id = source.optional("KEYWRIGHT_OIDC_CLIENT_ID")
        public_url = _public_url(source.optional("KEYWRIGHT_PUBLIC_URL"))
        smtp_url = source.secret("KEYWRIGHT_SMTP_URL")
        if smtp_url is not None and public_url is None:
            message = "KEYWRIGHT_SMTP_URL needs KEYWRIGHT_PUBLIC_URL: where the links in mails lead, such as"
            raise SettingsError(f"{message} https://keys.example.com")
        if smtp_url is not None:
            _check_smtp_url(smtp_url.reveal())
        audiences = source.listed("KEYWRIGHT_OIDC_AUDIENCE") or ((client_id,) if client_id else ())
        if issuer and not audiences:
            message = "KEYWRIGHT_OIDC_ISSUER needs KEYWRIGHT_OIDC_AUDIENCE or KEYWRIGHT_OIDC_CLIENT_ID: whom its tokens"
            raise SettingsError(f"{message} are for. A token for somebody else's service would be good here, too.")
        admin_roles = _admin_roles(source.listed("KEYWRIGHT_ADMIN_ROLES"))
        if admin_roles and not (issuer and client_id):
            message = "KEYWRIGHT_ADMIN_ROLES needs KEYWRIGHT_OIDC_ISSUER and KEYWRIGHT_OIDC_CLIENT_ID"
            raise SettingsError(f"{message}: where these people sign in")
        return cls(
            oidc_issuer=issuer,
            oidc_audiences=audiences,
            oidc_client_id=client_id,
            oidc_client_secret=source.secret("KEYWRIGHT_OIDC_CLIENT_SECRET"),
            admin_roles=admin_roles,
            cors_origins=tuple(_web_origin(one) for one in source.listed("KEYWRIGHT_CORS_ORIGINS")),
            rate_limit=source.whole("KEYWRIGHT_SELF_SERVE_RATE_LIMIT", 20, 0, 1_000_000),
            public_url=public_url or here,
            smtp_url=smtp_url,
            mail_from=_mail_from(
                source.text("KEYWRIGHT_MAIL_FROM", f"keywright@{urlsplit(public_url or here).hostname}")
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSettings:
    """What both planes need to know, as each of them judges keys from a replica of its own.

    `pepper` is a text that was given as a variable, or None: then it is a file.
    """

    host: str
    port: int
    grpc_port: int | None
    data_dir: Path
    workers: int
    pepper: Secret | None
    pepper_file: Path
    region: str
    min_revision_millis: int
    validation_token_required: bool
    forward_auth_header: str
    forward_auth_scheme: str
    identity_headers: IdentityHeaders
    identity_token_seconds: int
    identity_issuer: str
    identity_key_file: Path | None
    log_level: str
    broker: NatsOptions | None
    """The broker that the log is relayed to or followed at, if any."""
    environment: Mapping[str, str] = field(repr=False)
    """What a worker process needs in its environment to load these same settings."""

    @property
    def replica_dir(self) -> Path:
        return self.data_dir / "replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSettings(PlaneSettings):
    """What `keywright serve` and the commands beside it need to know.

    `master_key` is a text that was given as a variable, or None: then it is a file in `data_dir`.
    """

    database_url: str
    bootstrap_account: str | None
    bootstrap_key: Secret | None
    master_key: Secret | None
    master_key_file: Path
    management_rate_limit: float
    metadata_bytes: int
    tags: int
    session_idle_minutes: int
    session_minutes: int
    edge_name: str
    end_users: EndUserSettings
    snapshot_changes: int
    """After how many changes the broker gets a new snapshot."""

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @classmethod
    def load(
        cls,
        *,
        host: str | None = None,
        port: int | None = None,
        data_dir: str | Path | None = None,
        database_url: str | None = None,
        workers: int | None = None,
        region: str | None = None,
        nats: str | None = None,
        grpc_port: int | None = None,
    ) -> OriginSettings:
        """Settings from flags (None: not given) and variables. Raises SettingsError."""
        flags = _flags(
            KEYWRIGHT_HOST=host,
            KEYWRIGHT_PORT=port,
            KEYWRIGHT_DATA_DIR=data_dir,
            KEYWRIGHT_DATABASE_URL=database_url,
            KEYWRIGHT_WORKERS=workers,
            KEYWRIGHT_REGION=region,
            KEYWRIGHT_NATS_URL=nats,
            KEYWRIGHT_GRPC_PORT=grpc_port,
        )
        source = _Source({**os.environ, **flags})
        data = source.data_dir(DEFAULT_DATA_DIR)
        bootstrap_key = source.secret("KEYWRIGHT_BOOTSTRAP_KEY")
        if bootstrap_key is not None and not is_possible(bootstrap_key.reveal()):
            message = "8 to 512 printable ASCII characters without spaces, and no generated key that was mistyped"
            raise SettingsError(f"KEYWRIGHT_BOOTSTRAP_KEY must be {message}")
        return cls(
            **_of_both_planes(source, flags, data),
            database_url=_database_url(source.text("KEYWRIGHT_DATABASE_URL", ""), data),
            bootstrap_account=source.optional("KEYWRIGHT_BOOTSTRAP_ACCOUNT"),
            bootstrap_key=bootstrap_key,
            master_key=source.secret("KEYWRIGHT_MASTER_KEY"),
            master_key_file=Path(source.text("KEYWRIGHT_MASTER_KEY_FILE", str(data / "master.key"))).absolute(),
            management_rate_limit=source.whole("KEYWRIGHT_MANAGEMENT_RATE_LIMIT", 100, 0, 1_000_000),
            metadata_bytes=source.whole("KEYWRIGHT_METADATA_BYTES", 1024, 2, 65536),
            tags=source.whole("KEYWRIGHT_TAGS", 5, 0, 100),
            session_idle_minutes=source.whole("KEYWRIGHT_SESSION_IDLE_MINUTES", 60, 5, 44_640),
            session_minutes=source.whole("KEYWRIGHT_SESSION_MINUTES", 720, 5, 44_640),
            edge_name=source.edge_name(),
            end_users=EndUserSettings.of(source, _here(source)),
            snapshot_changes=source.whole("KEYWRIGHT_NATS_SNAPSHOT_CHANGES", 100_000, 1, 100_000_000),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings(PlaneSettings):
    """What `keywright edge` needs to know: an origin and a management key that may follow its feed, or a broker.

    Without either there is a snapshot file, which is all that the edge will ever know.
    """

    origin: str | None
    token: Secret | None
    snapshot: Path | None
    name: str
    haproxy: Path | None
    haproxy_lease_seconds: int

    @property
    def sync_clock_file(self) -> Path:
        return self.replica_dir / "in-step.json"

    @property
    def is_following(self) -> bool:
        return self.origin is not None or self.broker is not None

    @property
    def followed(self) -> str:
        """Where the record is followed, to be shown."""
        return ", ".join(self.broker.servers) if self.broker is not None else self.origin or "nothing"

    @classmethod
    def load(
        cls,
        *,
        origin: str | None = None,
        snapshot: str | Path | None = None,
        host: str | None = None,
        port: int | None = None,
        data_dir: str | Path | None = None,
        workers: int | None = None,
        region: str | None = None,
        nats: str | None = None,
        grpc_port: int | None = None,
        haproxy: str | Path | None = None,
    ) -> EdgeSettings:
        """Settings from flags (None: not given) and variables. Raises SettingsError."""
        flags = _flags(
            KEYWRIGHT_ORIGIN=origin,
            KEYWRIGHT_SNAPSHOT=snapshot,
            KEYWRIGHT_HOST=host,
            KEYWRIGHT_PORT=port,
            KEYWRIGHT_DATA_DIR=data_dir,
            KEYWRIGHT_WORKERS=workers,
            KEYWRIGHT_REGION=region,
            KEYWRIGHT_NATS_URL=nats,
            KEYWRIGHT_GRPC_PORT=grpc_port,
            KEYWRIGHT_HAPROXY=haproxy,
        )
        source = _Source({**os.environ, **flags})
        address, snapshot_file = source.optional("KEYWRIGHT_ORIGIN"), source.path("KEYWRIGHT_SNAPSHOT")
        token = source.secret("KEYWRIGHT_EDGE_TOKEN")
        common = _of_both_planes(source, flags, source.data_dir(DEFAULT_EDGE_DATA_DIR))
        if address is not None and common["broker"] is not None:
            raise SettingsError("KEYWRIGHT_ORIGIN (--origin) and KEYWRIGHT_NATS_URL (--nats) are both set: follow one")
        if address is None and common["broker"] is None and snapshot_file is None:
            raise SettingsError("give KEYWRIGHT_ORIGIN (--origin), KEYWRIGHT_NATS_URL (--nats) or --snapshot, a file")
        if address is not None and (token is None or not is_possible(token.reveal())):
            raise SettingsError("KEYWRIGHT_EDGE_TOKEN must be a management key whose permissions have feed: true")
        return cls(
            **common,
            origin=None if address is None else _origin_url(address),
            token=token,
            snapshot=snapshot_file,
            name=source.edge_name(),
            haproxy=source.path("KEYWRIGHT_HAPROXY"),
            haproxy_lease_seconds=source.whole("KEYWRIGHT_HAPROXY_LEASE_SECONDS", 5, 2, 86_400),
        )


def _flags(**given: object) -> dict[str, str]:
    """The variables that flags stand for, where they were given."""
    return {name: str(value) for name, value in given.items() if value is not None}


def _of_both_planes(source: _Source, flags: Mapping[str, str], data_dir: Path) -> dict[str, Any]:
    """The fields of PlaneSettings."""
    return {
        "host": source.text("KEYWRIGHT_HOST", DEFAULT_HOST),
        "port": source.whole("KEYWRIGHT_PORT", DEFAULT_PORT, 1, 65535),
        "grpc_port": source.whole("KEYWRIGHT_GRPC_PORT", 0, 0, 65535) or None,
        "data_dir": data_dir,
        "workers": source.whole("KEYWRIGHT_WORKERS", 1, 1, 256),
        "pepper": source.secret("KEYWRIGHT_PEPPER"),
        "pepper_file": Path(source.text("KEYWRIGHT_PEPPER_FILE", str(data_dir / "pepper.key"))).absolute(),
        "region": source.region(),
        "min_revision_millis": source.whole("KEYWRIGHT_MIN_REVISION_TIMEOUT", 500, 0, 10_000),
        "validation_token_required": source.flag("KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"),
        "forward_auth_header": source.forward_auth_header(),
        "forward_auth_scheme": source.any_text("KEYWRIGHT_FORWARD_AUTH_SCHEME", "Bearer"),
        "identity_headers": source.identity_headers(),
        "identity_token_seconds": source.whole("KEYWRIGHT_IDENTITY_TOKEN_SECONDS", 0, 0, 3600),
        "identity_issuer": source.text("KEYWRIGHT_IDENTITY_ISSUER", "keywright"),
        "identity_key_file": source.path("KEYWRIGHT_IDENTITY_KEY_FILE"),
        "log_level": source.choice("KEYWRIGHT_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        "broker": _broker(source),
        "environment": flags,
    }


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

    def data_dir(self, default: str) -> Path:
        return Path(self.text("KEYWRIGHT_DATA_DIR", default)).expanduser().absolute()

    def listed(self, name: str) -> tuple[str, ...]:
        """What stands between commas."""
        parts = (part.strip() for part in self.any_text(name, "").split(","))
        return tuple(part for part in parts if part)

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

    def edge_name(self) -> str:
        return _named("KEYWRIGHT_EDGE_NAME", self.text("KEYWRIGHT_EDGE_NAME", edge_name_of(socket.gethostname())))

    def region(self) -> str:
        text = self.any_text("KEYWRIGHT_REGION", "")
        return _named("KEYWRIGHT_REGION", text) if text else ""

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.text(name, default).lower()
        if text not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {text[:40]!r}")
        return text

    def name(self, name: str, default: str) -> str:
        """A name such as the broker has for what is in it."""
        text = self.text(name, default)
        if text and re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text) is None:
            raise SettingsError(f"{name} must be 1 to 32 of A-Z, a-z, 0-9, _ and -, not {text[:40]!r}")
        return text

    def names(self, name: str) -> tuple[str, ...]:
        """Such names with commas between."""
        parts = (part.strip() for part in self.any_text(name, "").split(","))
        return tuple(_Source({name: part}).name(name, "") for part in parts if part)

    def forward_auth_header(self) -> str:
        text = self.text("KEYWRIGHT_FORWARD_AUTH_HEADER", "authorization")
        if not is_header_name(text):
            message = "must be a header's name of letters, digits and hyphens, 64 at most"
            raise SettingsError(f"KEYWRIGHT_FORWARD_AUTH_HEADER {message}, not {text[:80]!r}")
        return text

    def identity_headers(self) -> IdentityHeaders:
        try:
            return rename(self.listed("KEYWRIGHT_IDENTITY_HEADERS"), self.forward_auth_header())
        except ValueError as error:
            raise SettingsError(f"KEYWRIGHT_IDENTITY_HEADERS {error}") from None


def _check_issuer(url: str) -> None:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not is_safe or not parts.hostname or parts.query or parts.fragment or "@" in url:
        message = "must be the issuer exactly as the provider writes it, such as https://id.example.com/realms/main"
        raise SettingsError(f"KEYWRIGHT_OIDC_ISSUER {message}; without TLS it may only be on this machine")


def _here(source: _Source) -> str:
    host = source.text("KEYWRIGHT_HOST", DEFAULT_HOST)
    port = source.text("KEYWRIGHT_PORT", str(DEFAULT_PORT))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _public_url(url: str | None) -> str | None:
    if url is None:
        return None
    if re.fullmatch(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?/?", url) is None:
        raise SettingsError("KEYWRIGHT_PUBLIC_URL must be where browsers reach this service: https://keys.example.com")
    return url.rstrip("/")


def _check_smtp_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.path.strip("/") or parts.query:
        # The URL itself is not repeated: it may hold a password.
        raise SettingsError("KEYWRIGHT_SMTP_URL must look like smtps://user:password@smtp.example.com:465")


def _mail_from(address: str) -> str:
    if re.fullmatch(r"[^@\s<>]{1,64}@[^@\s<>]{1,255}", address) is None or not address.isascii():
        raise SettingsError("KEYWRIGHT_MAIL_FROM must be an e-mail address, such as keys@example.com")
    return address


def _admin_roles(parts: tuple[str, ...]) -> Mapping[str, roles.Held]:
    try:
        return roles.parse(parts)
    except ValueError as error:
        raise SettingsError(f"KEYWRIGHT_ADMIN_ROLES {error}") from None


def _web_origin(text: str) -> str:
    if re.fullmatch(r"\*|https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", text) is None:
        message = "must be origins between commas, such as https://app.example.com, in lower case and without a path"
        raise SettingsError(f"KEYWRIGHT_CORS_ORIGINS {message}, not {text[:80]!r}")
    return text


def _named(setting: str, text: str) -> str:
    if not is_edge_name(text):
        raise SettingsError(f"{setting} must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    return text


def _origin_url(given: str) -> str:
    parts = urlsplit(given)
    # A password in a URL would end up in logs; the token is what authenticates.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in given:
        raise SettingsError("KEYWRIGHT_ORIGIN (--origin) must be the origin's address, such as https://keys.internal")
    return given.rstrip("/")


def _broker(source: _Source) -> NatsOptions | None:
    given = source.text("KEYWRIGHT_NATS_URL", "")
    if not given:
        return None

    options = NatsOptions(
        servers=tuple(_broker_url(part.strip()) for part in given.split(",")),
        credentials=source.path("KEYWRIGHT_NATS_CREDENTIALS"),
        user=source.optional("KEYWRIGHT_NATS_USER"),
        password=source.secret("KEYWRIGHT_NATS_PASSWORD"),
        token=source.secret("KEYWRIGHT_NATS_TOKEN"),
        ca_file=source.path("KEYWRIGHT_NATS_CA_FILE"),
        certificate_file=source.path("KEYWRIGHT_NATS_CERTIFICATE_FILE"),
        key_file=source.path("KEYWRIGHT_NATS_KEY_FILE"),
        domain=source.name("KEYWRIGHT_NATS_DOMAIN", ""),
        mirrors=source.names("KEYWRIGHT_NATS_MIRRORS"),
        prefix=source.name("KEYWRIGHT_NATS_PREFIX", "keywright"),
        replicas=source.whole("KEYWRIGHT_NATS_REPLICAS", 1, 1, 5),
    )
    if options.mirrors and (not options.domain or options.domain in options.mirrors):
        raise SettingsError("KEYWRIGHT_NATS_MIRRORS needs KEYWRIGHT_NATS_DOMAIN, the domain that they are mirrors of")
    if (options.certificate_file is None) is not (options.key_file is None):
        raise SettingsError("KEYWRIGHT_NATS_CERTIFICATE_FILE and KEYWRIGHT_NATS_KEY_FILE go together")
    if (options.user is None) is not (options.password is None):
        raise SettingsError("KEYWRIGHT_NATS_USER and KEYWRIGHT_NATS_PASSWORD go together")
    return options


def _broker_url(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.path or parts.query or "@" in given:
        message = "must be one or more of nats://host:4222 and tls://host:4222 with commas between"
        raise SettingsError(f"KEYWRIGHT_NATS_URL (--nats) {message}, without a user: KEYWRIGHT_NATS_USER is for that")
    return given


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
