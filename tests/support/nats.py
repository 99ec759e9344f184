"""Real nats-servers for tests: one at a port of its own, or any of the configurations in deploy/nats."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx2

from support.postgres import free_port

COMMAND = str(Path(sys.executable).with_name("nats-server"))
DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "nats"


class NatsServer:
    """A running server; `start`, `stop` and `kill` may be called at any time. What it keeps is in `base`."""

    def __init__(self, base: Path, configuration: str | None = None) -> None:
        """`configuration` may refer to $PORT, $STORE and $MONITOR; without one it is a server with JetStream only."""
        base.mkdir(parents=True)
        self.base = base
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._monitor = free_port()
        self._file = base / "nats.conf"
        text = configuration or 'listen: "127.0.0.1:$PORT"\njetstream { store_dir: "$STORE" }\n'
        text = f'{text}\nhttp: "127.0.0.1:{self._monitor}"\n'
        self._file.write_text(text.replace("$PORT", str(self.port)).replace("$STORE", str(base / "store")))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with (self.base / "server.log").open("ab") as log:
            self._process = subprocess.Popen([COMMAND, "-c", str(self._file)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{self._monitor}/healthz", timeout=2).status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError((self.base / "server.log").read_text())

    def kill(self) -> None:
        """kill -9"""
        self.stop(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
