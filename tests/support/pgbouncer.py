"""A real PgBouncer before a real PostgreSQL (Debian: `pgbouncer`), in the mode that a test asks for."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.ports import free_port
from support.postgres import Postgres

STATEMENTS_SINCE = (1, 21)
"""From this version on it keeps prepared statements over transactions, where it is told to."""


def version() -> tuple[int, int]:
    """Raises RuntimeError where there is no PgBouncer."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        raise RuntimeError("no PgBouncer found: install Debian's package `pgbouncer`")
    found = re.search(r"PgBouncer (\d+)\.(\d+)", subprocess.run([binary, "-V"], capture_output=True, text=True).stdout)  # noqa: PLW1510
    assert found
    return int(found[1]), int(found[2])


@contextmanager
def running(postgres: Postgres, **settings: str | int) -> Iterator[PgBouncer]:
    """`settings` are those of its section [pgbouncer]."""
    base = Path(tempfile.mkdtemp(prefix="keywright-pgbouncer-"))
    base.chmod(0o755)
    bouncer = PgBouncer(base, postgres, settings)
    try:
        bouncer.wait_until_ready()
        yield bouncer
    finally:
        bouncer.process.kill()
        bouncer.process.wait()
        shutil.rmtree(base, ignore_errors=True)


class PgBouncer:
    """A running one; see `running`."""

    def __init__(self, base: Path, postgres: Postgres, settings: dict[str, str | int]) -> None:
        version()
        self.port = free_port()
        all_settings: dict[str, str | int] = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "any",
            "pool_mode": "transaction", "max_client_conn": 200, "default_pool_size": 10,
            "ignore_startup_parameters": "extra_float_digits", **settings,
        }  # fmt: skip
        lines = ["[databases]", f"* = host=127.0.0.1 port={postgres.port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in all_settings.items()]
        file = base / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o644)
        self._log = base / "pgbouncer.log"
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            # It refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") or "pgbouncer", str(file)],
                stdout=log, stderr=log, cwd=base, **options,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, self._log.read_text()
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(self._log.read_text())

    def url(self, behind: str, query: str = "") -> str:
        """The URL by which a database is reached through it."""
        name = urlsplit(behind).path
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}{name}{query}"
