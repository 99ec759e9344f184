"""Owns the settings that both planes read: where a service runs, how it judges keys, which variables there may be."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keywright.domain.identity_headers import IdentityHeaders, is_header_name, rename
from keywright.domain.keyformat import Secret
from keywright.domain.networks import Network
from keywright.protocol.reports import edge_name_of, is_edge_name
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.settings.kinds import (
    BLANK_OR_TEXT,
    PATH,
    SECRET,
    SWITCH,
    TEXT,
    OldName,
    Part,
    Setting,
    checked,
    choice,
    decimal,
    listed,
    whole,
)
from keywright.runtime.settings.nats import read_nats_options
from keywright.runtime.settings.network import read_network
from keywright.runtime.settings.reader import Reader, SettingsError


def _check_header_name(text: str) -> None:
    if not is_header_name(text):
        raise ValueError(f"must be a header's name of letters, digits and hyphens, 64 at most, not {text[:80]!r}")


def _check_edge_name(text: str) -> None:
    if not is_edge_name(text):
        raise ValueError("must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")


def _millis_to_seconds(text: str) -> str:
    return f"{whole(0, 10_000).parse(text) / 1000:g}"


_NAME = checked("1 to 64 of A-Z, a-z, 0-9, ., _ and -", _check_edge_name)

HOST = Setting(
    name="KEYWRIGHT_HOST",
    flag="--host",
    kind=TEXT,
    default="127.0.0.1",
    shown_default="`127.0.0.1`",
    help="address to listen on",
)
PORT = Setting(
    name="KEYWRIGHT_PORT",
    flag="--port",
    kind=whole(1, 65535),
    default=8080,
    shown_default="`8080`",
    help="port to listen on",
)
GRPC_PORT = Setting(
    name="KEYWRIGHT_GRPC_PORT",
    flag="--grpc-port",
    kind=whole(0, 65535),
    default=0,
    shown_default="off",
    help="port of Envoy's `ext_authz` over gRPC; needs the extra `keywright[grpc]`",
)
WORKERS = Setting(
    name="KEYWRIGHT_WORKERS",
    flag="--workers",
    kind=whole(1, 256),
    default=1,
    shown_default="`1`",
    help="processes that answer; all share one replica",
)
DATA_DIR: Setting[Path | None] = Setting(
    name="KEYWRIGHT_DATA_DIR",
    flag="--data-dir",
    kind=PATH,
    default=None,
    shown_default="`./keywright-data`, of `edge` `./keywright-edge`",
    help="SQLite, replica, pepper and master key; made with mode 0700",
)
DISK_RESERVE_MIB = Setting(
    name="KEYWRIGHT_DISK_RESERVE_MIB",
    kind=whole(0, 65536),
    default=32,
    shown_default="`32`",
    help="room on the disk, in MiB, that is kept back so that keys can be revoked when it is full (an eighth of the "
    "disk at most); 0 = none. See [Disk full](../how-to/run-in-production.md#disk-full)",
)
USAGE_SPOOL_MIB = Setting(
    name="KEYWRIGHT_USAGE_SPOOL_MIB",
    kind=whole(0, 65536),
    default=256,
    shown_default="`256`",
    help="room on the disk, in MiB, for [usage](counting.md) that is yet to be taken by the origin; when it is full "
    "the oldest is lost, and that is said; 0 = usage is not counted",
)
USAGE_INTERVAL_SECONDS = Setting(
    name="KEYWRIGHT_USAGE_INTERVAL_SECONDS",
    kind=whole(1, 60),
    default=60,
    shown_default="`60`",
    help="how often what was counted is written to the disk, 1 to 60; a process that is killed loses at most so much",
)
LOG_LEVEL = Setting(
    name="KEYWRIGHT_LOG_LEVEL",
    kind=choice("debug", "info", "warning", "error"),
    default="info",
    shown_default="`info`",
    help="`debug`, `info`, `warning` or `error`",
)
LOG_FORMAT = Setting(
    name="KEYWRIGHT_LOG_FORMAT",
    kind=choice("text", "json"),
    default="text",
    shown_default="`text`",
    help="`text` for people, or `json`: one object on each line",
)
REGION = Setting(
    name="KEYWRIGHT_REGION",
    flag="--region",
    kind=_NAME,
    default="",
    help="where it runs, for the list of edges",
)
EDGE_NAME: Setting[str | None] = Setting(
    name="KEYWRIGHT_EDGE_NAME",
    kind=_NAME,
    default=None,
    shown_default="the host's name",
    help="how an edge, or the one beside an origin, is named in the list of edges",
)
PEPPER: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_PEPPER",
    kind=SECRET,
    default=None,
    help="the pepper itself, base64 of 32 bytes or more, instead of a file",
    parts=frozenset({Part.SERVE, Part.EDGE, Part.CLI, Part.GATEWAY}),
)
PEPPER_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_PEPPER_FILE",
    kind=PATH,
    default=None,
    shown_default="`pepper.key` in the data directory",
    help="where the pepper is",
)

VALIDATION_TOKEN_REQUIRED = Setting(
    name="KEYWRIGHT_VALIDATION_TOKEN_REQUIRED",
    kind=SWITCH,
    default=False,
    shown_default="`false`",
    help="with `true` the validation endpoints want a management key in `Keywright-Token`",
)
MIN_REVISION_TIMEOUT_SECONDS = Setting(
    name="KEYWRIGHT_MIN_REVISION_TIMEOUT_SECONDS",
    kind=decimal(0, 10),
    default=0.5,
    shown_default="`0.5`",
    help="how long a validation with `Min-Revision` is kept waiting for the change, at most 10",
    old_names=(OldName("KEYWRIGHT_MIN_REVISION_TIMEOUT", _millis_to_seconds),),
)
FORWARD_AUTH_HEADER = Setting(
    name="KEYWRIGHT_FORWARD_AUTH_HEADER",
    kind=checked("a header's name", _check_header_name),
    default="authorization",
    shown_default="`authorization`",
    help="header in which `/v1/forward-auth` looks for the key",
)
FORWARD_AUTH_SCHEME = Setting(
    name="KEYWRIGHT_FORWARD_AUTH_SCHEME",
    kind=BLANK_OR_TEXT,
    default="Bearer",
    shown_default="`Bearer`",
    help="scheme before the key; empty = the bare header",
)
IDENTITY_HEADERS = Setting(
    name="KEYWRIGHT_IDENTITY_HEADERS",
    kind=listed(TEXT),
    default=(),
    help=(
        "other names for [identity headers](validation.md#other-names): `X-Consumer-Name=X-User-Id`, "
        "several with commas; `X-Key-Scopes` and `X-Key-Metadata` are told where they are named"
    ),
)
IDENTITY_TOKEN_SECONDS = Setting(
    name="KEYWRIGHT_IDENTITY_TOKEN_SECONDS",
    kind=whole(0, 3600),
    default=0,
    shown_default="`0` = off",
    help="life of the [identity token](validation.md#x-consumer-token) in `X-Consumer-Token`, such as 60",
)
IDENTITY_ISSUER = Setting(
    name="KEYWRIGHT_IDENTITY_ISSUER",
    kind=TEXT,
    default="keywright",
    shown_default="`keywright`",
    help="its `iss`",
)
IDENTITY_KEY_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_IDENTITY_KEY_FILE",
    kind=PATH,
    default=None,
    shown_default="drawn from the pepper",
    help="PEM file with the private key (P-256) that signs it; the same on all edges",
)

STRICT_SETTINGS = Setting(
    name="KEYWRIGHT_STRICT_SETTINGS",
    kind=SWITCH,
    default=False,
    shown_default="`false`",
    help="with `true` every variable that begins with `KEYWRIGHT_` and is not on this page stops the start",
    parts=frozenset({Part.SERVE, Part.EDGE, Part.CLI}),
)
IGNORE_VARIABLES = Setting(
    name="KEYWRIGHT_IGNORE_VARIABLES",
    kind=listed(TEXT),
    default=(),
    help="names of variables that are somebody else's, or of a newer version, and are left alone; several with commas",
    parts=frozenset({Part.SERVE, Part.EDGE, Part.CLI}),
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
    disk_reserve_mib: int
    usage_spool_mib: int
    """0: usage is not counted."""
    usage_interval_seconds: int
    trusted_proxies: tuple[Network, ...]
    client_address_header: str
    """In lower case; empty where no header is believed."""
    connections_per_address: int
    """0: what the server says."""
    pepper: Secret | None
    pepper_file: Path
    region: str
    min_revision_seconds: float
    validation_token_required: bool
    forward_auth_header: str
    forward_auth_scheme: str
    identity_headers: IdentityHeaders
    identity_token_seconds: int
    identity_issuer: str
    identity_key_file: Path | None
    log_level: str
    log_format: str
    """`text` or `json`."""
    broker: NatsOptions | None
    """The broker that the log is relayed to or followed at, if any."""
    flags: Mapping[str, str] = field(repr=False)
    """What was given on the command line, by the variables that the flags stand for."""

    @property
    def replica_dir(self) -> Path:
        return self.data_dir / "replica"

    @property
    def private_files(self) -> tuple[Path | None, ...]:
        """Files of secrets, where there are any, which nobody else may read."""
        broker = self.broker
        of_broker = (broker.credentials, broker.key_file) if broker is not None else ()
        return (self.pepper_file if self.pepper is None else None, self.identity_key_file, *of_broker)

    @property
    def url(self) -> str:
        """The address that this service listens on."""
        return url_of(self.host, self.port)


def read_plane(reader: Reader, default_data_dir: str) -> dict[str, Any]:
    """The fields of PlaneSettings. Raises SettingsError."""
    data_dir = reader.get(DATA_DIR) or Path(default_data_dir).absolute()
    header = reader.get(FORWARD_AUTH_HEADER)
    return {
        "host": reader.get(HOST),
        "port": reader.get(PORT),
        "grpc_port": reader.get(GRPC_PORT) or None,
        "data_dir": data_dir,
        "workers": reader.get(WORKERS),
        "disk_reserve_mib": reader.get(DISK_RESERVE_MIB),
        "usage_spool_mib": reader.get(USAGE_SPOOL_MIB),
        "usage_interval_seconds": reader.get(USAGE_INTERVAL_SECONDS),
        **read_network(reader),
        "pepper": reader.get(PEPPER),
        "pepper_file": reader.get(PEPPER_FILE) or data_dir / "pepper.key",
        "region": reader.get(REGION),
        "min_revision_seconds": reader.get(MIN_REVISION_TIMEOUT_SECONDS),
        "validation_token_required": reader.get(VALIDATION_TOKEN_REQUIRED),
        "forward_auth_header": header,
        "forward_auth_scheme": reader.get(FORWARD_AUTH_SCHEME),
        "identity_headers": _identity_headers(reader, header),
        "identity_token_seconds": reader.get(IDENTITY_TOKEN_SECONDS),
        "identity_issuer": reader.get(IDENTITY_ISSUER),
        "identity_key_file": reader.get(IDENTITY_KEY_FILE),
        "log_level": reader.get(LOG_LEVEL),
        "log_format": reader.get(LOG_FORMAT),
        "broker": read_nats_options(reader),
        "flags": reader.flags,
    }


def read_edge_name(reader: Reader) -> str:
    return reader.get(EDGE_NAME) or edge_name_of(socket.gethostname())


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _identity_headers(reader: Reader, key_header: str) -> IdentityHeaders:
    try:
        return rename(reader.get(IDENTITY_HEADERS), key_header)
    except ValueError as error:
        raise SettingsError(f"{IDENTITY_HEADERS.name} {error}") from None
