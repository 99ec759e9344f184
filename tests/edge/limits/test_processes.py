"""Limits that several processes count, some of which are killed or stopped in the middle of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge.limits.counting_process import NOW, STEPS
from keywright.edge.limits.table import Asked, LimitTable, consumer_limit_id
from keywright.edge.limits.table_file import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parent / "counting_process.py"
LIMIT = 1000
ASKED = [Asked(consumer_limit_id(1, name), LIMIT, 60, is_global=True) for name in ("a", "b")]


def start(directory: Path, *, count: int, step: str = "", sent: int = 0, limit: int = LIMIT) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(directory), "1", str(limit), str(count), step, str(sent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def result(process: subprocess.Popen[str]) -> int:
    told, _ = process.communicate(timeout=60)
    return int(told)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[LimitTable]:
    made = LimitTable(tmp_path, lambda: NOW)
    yield made
    made.close()


def taken(table: LimitTable) -> list[int]:
    return [LIMIT - stand.remaining for stand in table.take(ASKED, is_peek=True)[1]]


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    state = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + 30
    while state.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_processes_let_through_together_exactly_as_many_as_the_limit(table: LimitTable, tmp_path: Path) -> None:
    processes = [start(tmp_path, count=400, limit=LIMIT) for _ in range(4)]
    for process in processes:
        go_on(process)
    own = sum(table.take(ASKED)[0] for _ in range(400))
    assert sum(result(process) for process in processes) + own == LIMIT
    assert taken(table) == [LIMIT, LIMIT]


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_killed_loses_nothing_doubles_nothing_and_blocks_nobody(
    table: LimitTable, tmp_path: Path, step: str
) -> None:
    process = start(tmp_path, count=10, step=step, sent=signal.SIGKILL)
    go_on(process)
    assert process.wait(30) == -signal.SIGKILL
    began = time.monotonic()
    assert table.take(ASKED)[0]
    assert time.monotonic() - began < LEASE_SECONDS
    # The take of whoever was killed holds from the word in the journal on, and of both limits or none.
    count = 10 if step in ("looked", "journal") else 11
    assert taken(table) == [count, count]
    process.communicate()


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_stopped_keeps_nobody_waiting_and_counts_once_when_it_goes_on(
    table: LimitTable, tmp_path: Path, step: str
) -> None:
    process = start(tmp_path, count=10, step=step, sent=signal.SIGSTOP)
    go_on(process)
    wait_until_stopped(process)
    began = time.monotonic()
    assert table.take(ASKED)[0]
    waited = time.monotonic() - began
    assert waited < LEASE_SECONDS + 5
    assert table.take(ASKED)[0]
    process.send_signal(signal.SIGCONT)
    assert result(process) == 10
    assert taken(table) == [12, 12]
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_that_are_killed_at_any_moment_take_no_more_than_they_were_let(
    table: LimitTable, tmp_path: Path
) -> None:
    randomly = random.Random(1)
    for _ in range(6):
        child = os.fork()
        if child == 0:
            while True:
                table.take(ASKED)
        time.sleep(randomly.uniform(0.005, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts = taken(table)
        assert counts[0] == counts[1]
    assert sum(table.take(ASKED)[0] for _ in range(LIMIT)) == LIMIT - counts[0]
