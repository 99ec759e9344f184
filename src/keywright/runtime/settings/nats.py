"""Owns the settings of the NATS broker that changes go over, which both planes read."""

from __future__ import annotations

from pathlib import Path

from keywright.domain.keyformat import Secret
from keywright.protocol.feed_formats import FORMATS
from keywright.runtime.nats_options import NatsOptions
from keywright.runtime.settings.addresses import BROKER_URL
from keywright.runtime.settings.kinds import (
    BROKER_NAME,
    PATH,
    SECRET,
    TEXT,
    Kind,
    OldName,
    Part,
    Setting,
    choice,
    listed,
    whole,
)
from keywright.runtime.settings.reader import Reader, SettingsError

NATS_URL = Setting(
    name="KEYWRIGHT_NATS_URL",
    flag="--nats",
    kind=listed(BROKER_URL),
    default=(),
    help="`nats://host:4222` or `tls://host:4222`, several with commas between",
)
NATS_CREDENTIALS_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_NATS_CREDENTIALS_FILE",
    kind=PATH,
    default=None,
    help="a credentials file (`.creds`: JWT and seed)",
    old_names=(OldName("KEYWRIGHT_NATS_CREDENTIALS"),),
)
NATS_USER: Setting[str | None] = Setting(
    name="KEYWRIGHT_NATS_USER", kind=TEXT, default=None, help="a user of the broker, with its password"
)
NATS_PASSWORD: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_NATS_PASSWORD", kind=SECRET, default=None, help="that user's password"
)
NATS_TOKEN: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_NATS_TOKEN", kind=SECRET, default=None, help="a token of the broker"
)
NATS_CA_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_NATS_CA_FILE",
    kind=PATH,
    default=None,
    shown_default="the system's",
    help="whose certificates to trust",
)
NATS_CERTIFICATE_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_NATS_CERTIFICATE_FILE", kind=PATH, default=None, help="a client certificate, with its key"
)
NATS_KEY_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_NATS_KEY_FILE", kind=PATH, default=None, help="that certificate's key"
)
NATS_DOMAIN = Setting(
    name="KEYWRIGHT_NATS_DOMAIN",
    kind=BROKER_NAME,
    default="",
    shown_default="the server's own",
    help="JetStream domain of the streams",
)
NATS_MIRRORS = Setting(
    name="KEYWRIGHT_NATS_MIRRORS",
    kind=listed(BROKER_NAME),
    default=(),
    help="domains with mirrors: `serve` makes them, `edge` reads there what it can't get from the domain",
)
NATS_PREFIX = Setting(
    name="KEYWRIGHT_NATS_PREFIX",
    kind=BROKER_NAME,
    default="keywright",
    shown_default="`keywright`",
    help="what streams and subjects of this deployment begin with",
)
NATS_REPLICAS = Setting(
    name="KEYWRIGHT_NATS_REPLICAS",
    kind=whole(1, 5),
    default=1,
    shown_default="`1`",
    help="copies of each stream in a cluster of brokers; counts when the stream is made",
)
NATS_SNAPSHOT_CHANGES = Setting(
    name="KEYWRIGHT_NATS_SNAPSHOT_CHANGES",
    kind=whole(1, 100_000_000),
    default=100_000,
    shown_default="`100000`",
    help="after how many changes the broker gets a new snapshot",
    parts=frozenset({Part.SERVE}),
)


def _parse_formats(text: str) -> frozenset[int]:
    named = _ONE_FORMAT.parse(text)
    if not named:
        raise ValueError("must name a format")
    return frozenset(map(int, named))


_ONE_FORMAT = listed(choice(*map(str, FORMATS)))
NATS_FORMATS: Setting[frozenset[int]] = Setting(
    name="KEYWRIGHT_NATS_FORMATS",
    kind=Kind(_ONE_FORMAT.words, _parse_formats),
    default=frozenset(FORMATS),
    shown_default="`2,3`",
    help="formats of the feed that the broker gets, each in streams of its own: version 0.1 reads 2 alone",
    parts=frozenset({Part.SERVE}),
)


def read_nats_options(reader: Reader) -> NatsOptions | None:
    """How to reach the broker; None where there is none. Raises SettingsError."""
    servers = reader.get(NATS_URL)
    if not servers:
        return None
    options = NatsOptions(
        servers=servers,
        credentials=reader.get(NATS_CREDENTIALS_FILE),
        user=reader.get(NATS_USER),
        password=reader.get(NATS_PASSWORD),
        token=reader.get(NATS_TOKEN),
        ca_file=reader.get(NATS_CA_FILE),
        certificate_file=reader.get(NATS_CERTIFICATE_FILE),
        key_file=reader.get(NATS_KEY_FILE),
        domain=reader.get(NATS_DOMAIN),
        mirrors=reader.get(NATS_MIRRORS),
        prefix=reader.get(NATS_PREFIX),
        replicas=reader.get(NATS_REPLICAS),
    )
    if options.mirrors and (not options.domain or options.domain in options.mirrors):
        raise SettingsError(f"{NATS_MIRRORS.name} needs {NATS_DOMAIN.name}, the domain that they are mirrors of")
    if (options.certificate_file is None) is not (options.key_file is None):
        raise SettingsError(f"{NATS_CERTIFICATE_FILE.name} and {NATS_KEY_FILE.name} go together")
    if (options.user is None) is not (options.password is None):
        raise SettingsError(f"{NATS_USER.name} and {NATS_PASSWORD.name} go together")
    return options
