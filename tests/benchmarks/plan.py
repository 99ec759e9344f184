"""How much is measured in one run, and where: what every section is given."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

SMALL, LARGE = 10_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds and lengths of a run; `directory` is a fresh one, on the disk that is measured."""

    directory: Path
    rounds: int
    seconds: float
    sizes: tuple[int, int]
    calls: int
    """In-process validations of each round."""

    def seconds_of(self, each: int) -> int:
        """A length or count of `each` for every second of a round: 2 in a full run, 1 to try the benchmark itself."""
        return round(each * self.seconds) if self.seconds > 1 else max(1, each // 20)

    @classmethod
    def full(cls, directory: Path, rounds: int) -> Plan:
        return cls(directory, rounds, seconds=2, sizes=(SMALL, LARGE), calls=100_000)

    @classmethod
    def quick(cls, directory: Path, rounds: int) -> Plan:
        """For trying the benchmark itself: its figures mean nothing."""
        return cls(directory, rounds, seconds=1, sizes=(1_000, 5_000), calls=5_000)


_STARTED = time.monotonic()


def progress(text: str) -> None:
    """A line for whoever waits, with the time since the beginning."""
    print(f"[{time.monotonic() - _STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def size_name(keys: int) -> str:
    return f"{keys // 1_000_000} million keys" if keys >= 1_000_000 else f"{keys:,} keys"
