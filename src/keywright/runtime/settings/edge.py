"""Owns the settings of `keywright edge`: what it follows, and the HAProxy that it keeps in step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keywright.domain.keyformat import Secret, is_possible
from keywright.runtime.settings.addresses import ORIGIN_URL as ORIGIN_ADDRESS
from keywright.runtime.settings.common import PlaneSettings, read_edge_name, read_plane
from keywright.runtime.settings.kinds import PATH, SECRET, OldName, Part, Setting, whole
from keywright.runtime.settings.nats import NATS_URL
from keywright.runtime.settings.reader import Reader, SettingsError, given_flags

DEFAULT_EDGE_DATA_DIR = "./keywright-edge"
_EDGE = frozenset({Part.EDGE})

ORIGIN_URL: Setting[str | None] = Setting(
    name="KEYWRIGHT_ORIGIN_URL",
    flag="--origin",
    kind=ORIGIN_ADDRESS,
    default=None,
    help="address of the origin to follow, `https://...` or `http://...`",
    old_names=(OldName("KEYWRIGHT_ORIGIN"),),
    parts=_EDGE,
)
SNAPSHOT_FILE: Setting[Path | None] = Setting(
    name="KEYWRIGHT_SNAPSHOT_FILE",
    flag="--snapshot",
    kind=PATH,
    default=None,
    help="file of `keywright snapshot export` to begin with; at least one of this and an origin is given",
    old_names=(OldName("KEYWRIGHT_SNAPSHOT"),),
    parts=_EDGE,
)
EDGE_TOKEN: Setting[Secret | None] = Setting(
    name="KEYWRIGHT_EDGE_TOKEN",
    kind=SECRET,
    default=None,
    help="a management key whose permissions have `feed: true`",
    parts=_EDGE,
)
REFUSE_AFTER_SECONDS = Setting(
    name="KEYWRIGHT_REFUSE_AFTER_SECONDS",
    kind=whole(0, 31_536_000),
    default=0,
    shown_default="`0` = never",
    help="after so long behind, or without a report that was taken, it "
    "[refuses every key](../how-to/run-an-edge.md#leased-edges); up to 31536000",
    parts=_EDGE,
)
HAPROXY_SOCKET: Setting[Path | None] = Setting(
    name="KEYWRIGHT_HAPROXY_SOCKET",
    flag="--haproxy",
    kind=PATH,
    default=None,
    help="admin socket of a HAProxy whose maps are [kept in step](../how-to/protect-an-api-behind-haproxy.md)",
    old_names=(OldName("KEYWRIGHT_HAPROXY"),),
    parts=_EDGE,
)
HAPROXY_LEASE_SECONDS = Setting(
    name="KEYWRIGHT_HAPROXY_LEASE_SECONDS",
    kind=whole(2, 86_400),
    default=5,
    shown_default="`5`",
    help="how long that HAProxy goes on without this edge, 2 to 86400",
    parts=_EDGE,
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
    refuse_after_seconds: int | None

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
        flags = given_flags(
            KEYWRIGHT_ORIGIN_URL=origin,
            KEYWRIGHT_SNAPSHOT_FILE=snapshot,
            KEYWRIGHT_HOST=host,
            KEYWRIGHT_PORT=port,
            KEYWRIGHT_DATA_DIR=data_dir,
            KEYWRIGHT_WORKERS=workers,
            KEYWRIGHT_REGION=region,
            KEYWRIGHT_NATS_URL=nats,
            KEYWRIGHT_GRPC_PORT=grpc_port,
            KEYWRIGHT_HAPROXY_SOCKET=haproxy,
        )
        reader = Reader(os.environ, flags)
        address, snapshot_file = reader.get(ORIGIN_URL), reader.get(SNAPSHOT_FILE)
        token = reader.get(EDGE_TOKEN)
        common = read_plane(reader, DEFAULT_EDGE_DATA_DIR)
        if address is not None and common["broker"] is not None:
            raise SettingsError(f"{ORIGIN_URL.label} and {NATS_URL.label} are both set: follow one")
        if address is None and common["broker"] is None and snapshot_file is None:
            raise SettingsError(f"give {ORIGIN_URL.label}, {NATS_URL.label} or {SNAPSHOT_FILE.label}, a file")
        if address is not None and (token is None or not is_possible(token.reveal())):
            raise SettingsError(f"{EDGE_TOKEN.name} must be a management key whose permissions have feed: true")
        return cls(
            **common,
            origin=address,
            token=token,
            snapshot=snapshot_file,
            name=read_edge_name(reader),
            haproxy=reader.get(HAPROXY_SOCKET),
            haproxy_lease_seconds=reader.get(HAPROXY_LEASE_SECONDS),
            refuse_after_seconds=reader.get(REFUSE_AFTER_SECONDS) or None,
        )
