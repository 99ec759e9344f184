"""Owns the settings of `keywright serve` and of the commands beside it: the record, its secrets and its bounds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keywright.domain.identity_headers import DEFAULT_MAX_BYTES
from keywright.domain.keyformat import DEFAULT_PREFIX, PREFIX_WORDS, Secret, find_prefix_fault, is_possible
from keywright.runtime.settings.addresses import DATABASE_URL as DATABASE_ADDRESS
from keywright.runtime.settings.common import PlaneSettings, read_edge_name, read_plane, url_of
from keywright.runtime.settings.end_users import SESSION_IDLE_MINUTES, SESSION_MINUTES, EndUserSettings
from keywright.runtime.settings.kinds import PATH, SECRET, TEXT, Kind, OldName, Part, Setting, checked, choice, whole
from keywright.runtime.settings.nats import NATS_FORMATS, NATS_SNAPSHOT_CHANGES
from keywright.runtime.settings.reader import Reader, given_flags

DEFAULT_DATA_DIR = "./keywright-data"
_SERVE = frozenset({Part.SERVE})


def _parse_new_key(text: str) -> Secret:
    if not is_possible(text):
        message = "32 to 512 printable ASCII characters without spaces, and no generated key that was mistyped"
        raise ValueError(f"must be {message}")
    return Secret(text)


def _check_prefix(text: str) -> None:
    fault = find_prefix_fault(text)
    if fault is not None:
        raise ValueError(f"{fault}, not {text[:40]!r}")


DATABASE_URL = Setting(
    name="KEYWRIGHT_DATABASE_URL",
    flag="--database-url",
    kind=DATABASE_ADDRESS,
    default="",
    shown_default="SQLite in the data directory",
    help="`postgresql://user:password@host/database` or `sqlite:///path`",
    parts=_SERVE,
)
EXPECT_DEPLOYMENT: Setting[str | None] = Setting(
    name="KEYWRIGHT_EXPECT_DEPLOYMENT",
    kind=TEXT,
    default=None,
    help="the id (`dply_...`, printed at each start) of the deployment that the database must hold; "
    "for origins whose data directory does not last",
    parts=_SERVE,
)
BOOTSTRAP_ACCOUNT: Setting[str | None] = Setting(
    name="KEYWRIGHT_BOOTSTRAP_ACCOUNT",
    kind=TEXT,
    default=None,
    shown_default="`my-account`",
    help="name of the first account; counts at the first start only",
    parts=_SERVE,
)
BOOTSTRAP_KEY: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_BOOTSTRAP_KEY",
    kind=Kind("a key", _parse_new_key, is_secret=True),
    default=None,
    shown_default="made and printed once",
    help="the root management key, 32 characters or more; counts at the first start only",
    parts=_SERVE,
)
KEY_PREFIX = Setting(
    name="KEYWRIGHT_KEY_PREFIX",
    kind=checked(PREFIX_WORDS, _check_prefix),
    default=DEFAULT_PREFIX,
    shown_default="`kwak`",
    help="what keys begin with in new buckets, unless a bucket says another [prefix](api.md#prefixes)",
    parts=_SERVE,
)
MASTER_KEY: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_MASTER_KEY",
    kind=SECRET,
    default=None,
    help="master keys, base64 of 32 bytes each, separated by commas; the first one seals",
    parts=_SERVE,
)
MASTER_KEY_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_MASTER_KEY_FILE",
    kind=PATH,
    default=None,
    shown_default="`master.key` in the data directory",
    help="where the master keys are, one on each line",
    parts=_SERVE,
)
MANAGEMENT_RATE_LIMIT = Setting(
    name="KEYWRIGHT_MANAGEMENT_RATE_LIMIT",
    kind=whole(0, 1_000_000),
    default=100,
    shown_default="`100`",
    help="management requests a second per account and worker process; 0 = no limit",
    parts=_SERVE,
)
FEED_STREAMS_PER_TOKEN = Setting(
    name="KEYWRIGHT_FEED_STREAMS_PER_TOKEN",
    kind=whole(1, 100_000),
    default=250,
    shown_default="`250`",
    help="most edges that follow at once with one token, per worker process; one more is asked to come back (429)",
    parts=_SERVE,
)
WRONG_KEYS_PER_MINUTE = Setting(
    name="KEYWRIGHT_WRONG_KEYS_PER_MINUTE",
    kind=whole(0, 1_000_000),
    default=30,
    shown_default="`30`",
    help="different wrong management keys a minute per address (of IPv6 per /64) and worker process, then 429; "
    "a key that was judged lately is not counted again; 0 = no limit",
    parts=_SERVE,
)
MAX_METADATA_BYTES = Setting(
    name="KEYWRIGHT_MAX_METADATA_BYTES",
    kind=whole(2, 65536),
    default=1024,
    shown_default="`1024`",
    help="largest metadata of a consumer, and of a key, as encoded JSON",
    old_names=(OldName("KEYWRIGHT_METADATA_BYTES"),),
    parts=_SERVE,
)
MAX_IDENTITY_BYTES = Setting(
    name="KEYWRIGHT_MAX_IDENTITY_BYTES",
    kind=whole(2048, 1_048_576),
    default=DEFAULT_MAX_BYTES,
    shown_default="`12000`",
    help="most that a consumer's identity may take in the headers of a [gateway](validation.md#x-consumer-token): "
    "metadata percent-encoded and in a token; the [files for gateways](../../gateways) carry the default",
    parts=_SERVE,
)
MAX_TAGS = Setting(
    name="KEYWRIGHT_MAX_TAGS",
    kind=whole(0, 100),
    default=5,
    shown_default="`5`",
    help="most tags of a consumer, a key or a bucket",
    old_names=(OldName("KEYWRIGHT_TAGS"),),
    parts=_SERVE,
)
UNKNOWN_MEMBERS = Setting(
    name="KEYWRIGHT_UNKNOWN_MEMBERS",
    kind=choice("refuse", "ignore"),
    default="refuse",
    shown_default="`refuse`",
    help="with `ignore` the APIs pass over members of a body that they do not know, instead of answering 400",
    parts=_SERVE,
)

EDGE_RETIRE_HOURS = Setting(
    name="KEYWRIGHT_EDGE_RETIRE_HOURS",
    kind=whole(1, 87_600),
    default=24,
    shown_default="`24`",
    help="after how many hours without a report an edge is taken to be gone, and "
    "[no write waits for it](api.md#waiting-for-the-edges): 1 to 87600",
    parts=_SERVE,
)
USAGE_HOURS_DAYS = Setting(
    name="KEYWRIGHT_USAGE_HOURS_DAYS",
    kind=whole(2, 90),
    default=14,
    shown_default="`14`",
    help="for how many days [usage](usage.md) is kept by the hour, and for how many late counts are taken: 2 to 90",
    parts=_SERVE,
)
USAGE_DAYS_KEPT = Setting(
    name="KEYWRIGHT_USAGE_DAYS_KEPT",
    kind=whole(31, 3660),
    default=395,
    shown_default="`395`",
    help="for how many days usage is kept by the day: 31 to 3660",
    parts=_SERVE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSettings(PlaneSettings):
    """What `keywright serve` and the commands beside it need to know.

    `master_key` is a text that was given as a variable, or None: then it is a file in `data_dir`.
    """

    database_url: str
    expect_deployment: str | None
    """The id of the deployment that the database must hold."""
    bootstrap_account: str | None
    bootstrap_key: Secret | None
    key_prefix: str
    """Of keys in new buckets that don't say another one."""
    master_key: Secret | None
    master_key_file: Path
    management_rate_limit: float
    feed_streams_per_token: int
    wrong_keys_per_minute: float
    max_metadata_bytes: int
    max_identity_bytes: int
    max_tags: int
    unknown_members: str
    """`refuse` or `ignore`: what the API does with members of a body that it does not know."""
    session_idle_minutes: int
    session_minutes: int
    edge_name: str
    edge_retire_hours: int
    usage_hours_days: int
    usage_days_kept: int
    end_users: EndUserSettings
    snapshot_changes: int
    """After how many changes the broker gets a new snapshot."""
    feed_formats: frozenset[int]
    """The formats of the feed that the broker gets; at least one."""

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
        flags = given_flags(
            KEYWRIGHT_HOST=host,
            KEYWRIGHT_PORT=port,
            KEYWRIGHT_DATA_DIR=data_dir,
            KEYWRIGHT_DATABASE_URL=database_url,
            KEYWRIGHT_WORKERS=workers,
            KEYWRIGHT_REGION=region,
            KEYWRIGHT_NATS_URL=nats,
            KEYWRIGHT_GRPC_PORT=grpc_port,
        )
        reader = Reader(os.environ, flags)
        common = read_plane(reader, DEFAULT_DATA_DIR)
        data = common["data_dir"]
        return cls(
            **common,
            database_url=reader.get(DATABASE_URL) or f"sqlite+aiosqlite:///{data / 'keywright.db'}",
            expect_deployment=reader.get(EXPECT_DEPLOYMENT),
            bootstrap_account=reader.get(BOOTSTRAP_ACCOUNT),
            bootstrap_key=reader.get(BOOTSTRAP_KEY),
            key_prefix=reader.get(KEY_PREFIX),
            master_key=reader.get(MASTER_KEY),
            master_key_file=reader.get(MASTER_KEY_FILE) or data / "master.key",
            management_rate_limit=reader.get(MANAGEMENT_RATE_LIMIT),
            feed_streams_per_token=reader.get(FEED_STREAMS_PER_TOKEN),
            wrong_keys_per_minute=reader.get(WRONG_KEYS_PER_MINUTE),
            max_metadata_bytes=reader.get(MAX_METADATA_BYTES),
            max_identity_bytes=reader.get(MAX_IDENTITY_BYTES),
            max_tags=reader.get(MAX_TAGS),
            unknown_members=reader.get(UNKNOWN_MEMBERS),
            session_idle_minutes=reader.get(SESSION_IDLE_MINUTES),
            session_minutes=reader.get(SESSION_MINUTES),
            edge_name=read_edge_name(reader),
            edge_retire_hours=reader.get(EDGE_RETIRE_HOURS),
            usage_hours_days=reader.get(USAGE_HOURS_DAYS),
            usage_days_kept=reader.get(USAGE_DAYS_KEPT),
            end_users=EndUserSettings.read(reader, url_of(common["host"], common["port"])),
            snapshot_changes=reader.get(NATS_SNAPSHOT_CHANGES),
            feed_formats=reader.get(NATS_FORMATS),
        )
