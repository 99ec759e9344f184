"""What a soak measures once a minute, and whether it stayed within bounds."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from constant_rate import percentile
from traffic import Actor, Reader, Writer

from support.process import ServeProcess

MIB = 1024 * 1024
BOUNDS = {
    "own MiB": (1.15, 8.0),
    "open files": (1.1, 16.0),
    "threads": (1.1, 4.0),
    "replica MiB": (1.5, 8.0),
    "WAL MiB": (1.5, 16.0),
}
"""Of these the end may be so many times the middle, and so much more: what has found its size stays there."""


@dataclass
class Sample:
    minute: int
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """By place, by name."""

    def line(self) -> str:
        return f"{self.minute:4} min  " + "  ".join(
            f"{place}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
            for place, figures in self.figures.items()
        )


class Sampler:
    def __init__(self, servers: Mapping[str, ServeProcess], writer: Writer, readers: Mapping[str, Reader]) -> None:
        self._servers = servers
        self._writer = writer
        self._readers = readers

    def take(self, minute: int) -> Sample:
        sample = Sample(minute)
        for place, server in self._servers.items():
            pids = _session(server.process.pid)
            found = {
                "own MiB": sum(map(_own_bytes, pids)) / MIB,
                "open files": sum(_count(pid, "fd") for pid in pids),
                "threads": sum(_count(pid, "task") for pid in pids),
                "replica MiB": _bytes_below(server.data_dir, "data.mdb") / MIB,
                "database MiB": _bytes_below(server.data_dir, "keywright.db") / MIB,
                "WAL MiB": _bytes_below(server.data_dir, "keywright.db-wal") / MIB,
                "all files MiB": _bytes_below(server.data_dir, "*") / MIB,
                "CPU s": sum(map(_cpu_seconds, pids)),
            }
            found |= _latencies("validation", self._readers[place])
            if place == "origin":
                found |= _latencies("write", self._writer)
            sample.figures[place] = found
        return sample


def list_grown(samples: Sequence[Sample]) -> list[str]:
    """What was larger at the end than its bound allows; nothing can be said of less than ten minutes."""
    if len(samples) < 10:
        return []
    grown = []
    for place, figures in samples[-1].figures.items():
        for name in figures.keys() & BOUNDS.keys():
            times, more = BOUNDS[name]
            middle, end = (statistics.median(values) for values in _middle_and_end(samples, place, name))
            if end > middle * times + more:
                grown.append(f"{place}: {name} grew from {middle:.1f} to {end:.1f}")
    return grown


def render(
    facts: Sequence[tuple[str, str]],
    samples: Sequence[Sample],
    actors: Sequence[Actor],
    wrong: Sequence[str],
    grown: Sequence[str],
) -> str:
    lines = [*(f"{name}: {value}" for name, value in facts), ""]
    tenth = max(1, len(samples) // 10)
    lines.append(
        f"{len(samples)} minutes; medians of the first, the middle and the last {tenth}, and the greatest of all"
    )
    lines.append(f"{'':8} {'':18} {'start':>10} {'middle':>10} {'end':>10} {'greatest':>10}")
    for place, figures in samples[-1].figures.items() if samples else ():
        for name in figures:
            values = [sample.figures[place][name] for sample in samples]
            at = (len(values) - tenth) // 2
            parts = values[:tenth], values[at : at + tenth], values[-tenth:]
            row = [*(statistics.median(part) for part in parts), max(values)]
            lines.append(f"{place:8} {name:18} " + " ".join(f"{value:10.1f}" for value in row))
    lines += ["", *(f"{actor.name}: {actor.turns} calls, {len(actor.wrong)} wrong" for actor in actors)]
    lines += ["", *(wrong or ["No answer was wrong."]), *(grown or ["Nothing grew beyond its bound."])]
    return "\n".join(lines)


def _middle_and_end(samples: Sequence[Sample], place: str, name: str) -> tuple[list[float], list[float]]:
    values = [sample.figures[place][name] for sample in samples]
    part = max(1, len(values) // 10)
    at = (len(values) - part) // 2
    return values[at : at + part], values[-part:]


def _latencies(what: str, actor: Actor) -> dict[str, float]:
    values = sorted(actor.take_latencies()) or [0.0]
    return {f"{what} p50 ms": percentile(values, 0.5) * 1000, f"{what} p99 ms": percentile(values, 0.99) * 1000}


def _session(leader: int) -> list[int]:
    """All processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def _own_bytes(pid: int) -> int:
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss_Anon:"))


def _count(pid: int, folder: str) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/{folder}"))
    except OSError:
        return 0


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bytes_below(directory: Path, pattern: str) -> int:
    """On the disk; a file that is deleted meanwhile has none."""
    total = 0
    for file in directory.rglob(pattern):
        try:
            total += file.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
