"""A server under load, and what its rounds gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from load import Latency, Throughput
from processes import ServerProcess


@dataclass
class Candidate:
    """`requests` is the file of requests that it is asked."""

    name: str
    server: ServerProcess
    requests: Path
    rates: list[Throughput] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)

    @property
    def per_second(self) -> list[float]:
        return [one.per_second for one in self.rates]

    @property
    def cpu_micros(self) -> list[float]:
        return [one.cpu_micros for one in self.rates]
