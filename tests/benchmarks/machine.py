"""What the figures were taken on, and how its cores are shared out: servers on the first, load on the last."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = {CORES[0]}
LOAD_CORES = {CORES[-1]}


def description(directory: Path) -> list[tuple[str, str]]:
    """Facts about the machine by name; `directory` is where the measured data lies."""
    busy = os.getloadavg()[0]
    packages = ("granian", "lmdb", "msgspec", "fastapi", "sqlalchemy")
    cores = f"{len(CORES)} x {_cpu_model()}"
    if SERVER_CORES == LOAD_CORES:
        cores += " (one core for servers and load alike: the rates are too low)"
    return [
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("cores", cores),
        ("load average before the run", f"{busy:.1f}"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("disk", _file_system(directory)),
        ("system", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
        ("packages", ", ".join(f"{name} {version(name)}" for name in packages)),
    ]


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started inside runs on these cores, and so does what it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The file system type of the mount that the directory is on; fsync costs nothing on a tmpfs."""
    found, place = "unknown", Path("/")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split()
        if directory.resolve().is_relative_to(mount) and Path(mount).is_relative_to(place):
            found, place = kind, Path(mount)
    return found
