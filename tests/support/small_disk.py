"""A disk of a service's own that can be full: a small tmpfs in a mount namespace of that process.

It needs no privileges where user namespaces may be made; where they may not, the tests that need one are skipped.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from support.process import NO_TLS, ServeProcess


def mounted(directory: Path, mib: int) -> tuple[str, ...]:
    """What runs a command with a disk of this size in place of a directory, which is made. Skips where it can't be."""
    directory.mkdir(exist_ok=True)
    under = ("unshare", "-Urm", "sh", "-c", f'mount -t tmpfs -o size={mib}m none "$0" && exec "$@"', str(directory))
    if shutil.which("unshare") is None or subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace can be made here")
    return under


class SmallDisk:
    """The disk that a running process has for its data directory."""

    def __init__(self, served: ServeProcess, data_dir: Path) -> None:
        self._served = served
        self.path = Path(f"/proc/{served.process.pid}/root") / data_dir.relative_to("/")
        """Where it is as seen from outside."""

    def fill(self) -> None:
        """To the last byte."""
        for piece in (bytes(1024 * 1024), bytes(4096), b"x"):
            with contextlib.suppress(OSError), (self.path / "of-others").open("ab", buffering=0) as file:
                while file.write(piece):
                    pass

    def drain(self) -> None:
        (self.path / "of-others").unlink()

    def metric(self, name: str) -> float:
        text = httpx2.get(f"{self._served.url}/metrics", verify=NO_TLS, timeout=30).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])
