"""A worker ends with its parent, also one whose interpreter no longer gives its threads a turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.process import until

PROGRAM = """
import ctypes, multiprocessing, os, signal, time
from keywright.runtime.processes import parent

def hang(*_):
    # With the interpreter's lock, which a call of PyDLL keeps.
    ctypes.PyDLL(None).sleep(60)

def work():
    parent.DRAIN_SECONDS = 0.5
    # The thread comes first, and not the signal of the system.
    parent.PR_SET_PDEATHSIG = 2
    signal.signal(signal.SIGTERM, hang)
    parent.end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
time.sleep(60)
"""


def test_a_worker_that_keeps_the_interpreters_lock_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        until(lambda: _has_ended(worker), timeout=5)
    finally:
        if not _has_ended(worker):
            os.kill(worker, signal.SIGKILL)


STOPPED = """
import multiprocessing, os, time
from keywright.runtime.processes import parent

def work():
    parent.DRAIN_SECONDS, parent.LOOK_SECONDS = 0.4, 0.05
    parent.end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
time.sleep(60)
"""


def test_a_worker_that_was_stopped_goes_on_while_its_parent_lives() -> None:
    """However long: a container that is paused, or a debugger, is no parent's end."""
    parent = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        worker = int(parent.stdout.readline())
    try:
        # It has looked a few times.
        time.sleep(0.3)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(1)
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.3)
        assert not _has_ended(worker)
    finally:
        parent.kill()
        parent.wait()
        until(lambda: _has_ended(worker), timeout=5)


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
