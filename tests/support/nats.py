"""Real nats-servers for tests, among them hub and leaves as deploy/nats has them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx2

from keywright.nats.connection import Connection
from keywright.nats.streams import Streams
from keywright.nats.subjects import Subjects
from keywright.protocol.feed_formats import NEWEST
from support.ports import free_port
from support.process import NO_TLS

COMMAND = str(Path(sys.executable).with_name("nats-server"))
DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "nats"
BARE = 'listen: "0.0.0.0:4222"\njetstream { store_dir: "/var/lib/nats" }\n'
PASSWORDS = {"RELAY_PASSWORD": "relay-secret", "EDGE_PASSWORD": "edge-secret", "LEAF_PASSWORD": "leaf-secret"}


class NatsServer:
    """A running server; `start`, `stop` and `kill` may be called at any time. What it keeps is in `base`."""

    def __init__(self, base: Path, configuration: str = BARE, variables: Mapping[str, str] | None = None) -> None:
        """Nothing of the configuration is changed but addresses and the place of what is kept."""
        base.mkdir(parents=True)
        self.base = base
        self.port, self.leaf_port, self._monitor = free_port(), free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        text = configuration.replace("0.0.0.0:4222", f"127.0.0.1:{self.port}")
        text = text.replace("0.0.0.0:7422", f"127.0.0.1:{self.leaf_port}").replace("/var/lib/nats", str(base / "store"))
        self._file = base / "nats.conf"
        self._file.write_text(f'{text}\nhttp: "127.0.0.1:{self._monitor}"\n')
        self._variables = {**os.environ, **(variables or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with (self.base / "server.log").open("ab") as log:
            command = [COMMAND, "-c", str(self._file)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._variables)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{self._monitor}/healthz", timeout=2, verify=NO_TLS).status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError((self.base / "server.log").read_text())

    def kill(self) -> None:
        """kill -9"""
        self.stop(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def older_hub(base: Path) -> NatsServer:
    """A hub whose configuration tells nothing of the newer format of the feed."""
    return NatsServer(base, without_newer_format(hub_text()), PASSWORDS)


def without_newer_format(text: str) -> str:
    """A configuration as it was when there was one format of the feed."""
    lines = [line for line in text.splitlines() if not re.search(r"-3\b|\.3\b", line)]
    return "\n".join(lines).replace("max_streams: 4", "max_streams: 2")


def hub(base: Path, *regions: str, edges: int = 1) -> NatsServer:
    """With an account for each region (`eu` if none is named), and for edges `edge`, `edge-2` and so on."""
    return NatsServer(base, _with_edges(hub_text(*regions), edges), PASSWORDS)


def leaf(base: Path, region: str, hub_port: int, *, edges: int = 1) -> NatsServer:
    """`hub_port` is that of the hub for leaves, or of what stands before it."""
    text = re.sub(r"\beu\b", region, (DEPLOY / "leaf.conf").read_text())
    url = f"nats-leaf://{leaf_user(region)}:{PASSWORDS['LEAF_PASSWORD']}@127.0.0.1:{hub_port}"
    return NatsServer(base, _with_edges(text, edges), {**PASSWORDS, "HUB_URL": url})


def leaf_user(region: str) -> str:
    return "leaf" if region == "eu" else f"leaf-{region}"


def hub_text(*regions: str) -> str:
    """What docs/how-to/run-edges-in-many-regions.md has one do for each region besides `eu`."""
    text = (DEPLOY / "hub.conf").read_text()
    start = text.index("  LEAF_EU {")
    account = text[start : text.rindex("}")]
    for region in regions:
        if region == "eu":
            continue
        name = f"LEAF_{region.upper()}"
        for line in [line for line in text.splitlines() if "LEAF_EU" in line and "accounts: [KEYWRIGHT]" not in line]:
            if "{ s" in line:
                text = text.replace(line, f"{line}\n{line.replace('LEAF_EU', name).replace('.eu.', f'.{region}.')}")
        more = (
            account.replace("LEAF_EU", name)
            .replace(".eu.", f".{region}.")
            .replace("user: leaf,", f"user: leaf-{region},")
        )
        text = text[: text.rindex("}")] + more + "}\n"
    return text


def _with_edges(text: str, count: int) -> str:
    """An account more for each."""
    start = text.index("  EDGE_1 {")
    account = text[start : text.index("  }\n", start) + 4]
    more = [
        account.replace("EDGE_1", f"EDGE_{n}").replace("user: edge,", f"user: edge-{n},") for n in range(2, count + 1)
    ]
    return text.replace(account, account + "".join(more))


SCOPE = Subjects("any", NEWEST).scope
"""Of the frames there."""


def subjects_of(connection: Connection) -> Subjects:
    """The names of what edges of this version follow."""
    return connection.subjects.in_format(NEWEST)


def streams_of(connection: Connection) -> Streams:
    """What the deployment's own domain keeps."""
    return Streams(connection, connection.options.domain)
