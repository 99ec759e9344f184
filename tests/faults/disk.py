"""A disk for an edge that can be full: a small tmpfs where mounting is allowed, a file size limit where it isn't."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path

SIZE = 32 * 1024 * 1024
_PIECE = bytes(64 * 1024)


class Disk:
    """`path` is the place for an edge's data. `fill` and `drain` may be called while it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", path]
        done = subprocess.run(command, capture_output=True, check=False) if os.geteuid() == 0 else None
        self.is_mounted = done is not None and done.returncode == 0

    @property
    def kind(self) -> str:
        return "a tmpfs that is filled up" if self.is_mounted else "RLIMIT_FSIZE of the edge's processes"

    def fill(self, pids: list[int]) -> None:
        if not self.is_mounted:
            size = (self.path / "replica" / "data.mdb").stat().st_size
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return
        # The last byte of it: what is written in pieces fails with some space left.
        with contextlib.suppress(OSError), (self.path / "ballast").open("ab", buffering=0) as file:
            while file.write(_PIECE):
                pass

    def drain(self, pids: list[int]) -> None:
        if not self.is_mounted:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (self.path / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self.path], check=False)
