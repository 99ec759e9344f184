"""Section: from `keywright serve` to the first ready answer, beside Python's own start."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import report
import servers
from plan import Plan, progress
from report import Aim, Table, number

LIMIT_SECONDS = 2.0
_BASELINES = {
    "`python -c pass`": "pass",
    "Python, importing FastAPI and SQLAlchemy": "import fastapi, sqlalchemy.ext.asyncio",
}
_FIRST, _SECOND = "`keywright serve`, first start", "`keywright serve`, second start"


def run(plan: Plan) -> list[Table]:
    taken: dict[str, list[float]] = {name: [] for name in (*_BASELINES, _FIRST, _SECOND)}
    memory: dict[str, str] = {}
    for turn in range(plan.rounds):
        progress(f"start-up, round {turn + 1} of {plan.rounds}")
        for name, program in _BASELINES.items():
            taken[name].append(_seconds_of(program))
        data_dir = plan.directory / f"start-{turn}"
        for name in (_FIRST, _SECOND):
            server = servers.keywright(data_dir)
            taken[name].append(server.ready_seconds)
            memory[name] = str(server.memory())
            server.stop()
    table = Table(
        "From the command to ready",
        ("what", "s", "+-", "/ imports alone", "memory, MiB"),
        notes=["On all cores. The first start makes data directory, keys, database, account and replica."],
    )
    imports = taken[list(_BASELINES)[-1]]
    for name, seconds in taken.items():
        aims = [Aim(median(seconds), LIMIT_SECONDS, is_at_most=True, unit=" s")] if name in memory else []
        ratio = number(report.median_ratio(seconds, imports))
        table.add(name, number(median(seconds)), report.spread(seconds), ratio, memory.get(name, ""), aims=aims)
    return [table]


def _seconds_of(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started
