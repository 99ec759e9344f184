"""Owns that a worker ends with the process that started it, also when that one was killed and could tell nobody.

Linux sends a signal at the parent's end. Everywhere a thread waits for the pipe to close that `multiprocessing` keeps
between the two, and looks whether another process has become the parent: a sibling that was forked later may hold the
other end of the pipe open.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
DRAIN_SECONDS = 5.0
"""Shorter than after SIGTERM: whoever starts the service again finds the port taken until then."""
PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


def end_with_parent() -> None:
    """Called in a worker before anything else. Off the processes of `multiprocessing` it does nothing."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # After that call: a parent that died before it sends nothing.
    threading.Thread(target=_watch, args=(parent.pid, parent.sentinel), name="parent-watch", daemon=True).start()


def _watch(parent_id: int, sentinel: int) -> None:
    while os.getppid() == parent_id and not wait([sentinel], LOOK_SECONDS):
        pass
    if sys.platform != "win32":
        # The system's own: it ends also a process whose log nobody reads, or that gives none of its threads a turn.
        signal.setitimer(signal.ITIMER_REAL, DRAIN_SECONDS)
    _log.error(
        "the main process (pid %d) has ended without its workers: this one (pid %d) ends", parent_id, os.getpid()
    )
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    # What goes on now has no end of its own, and nobody is left to kill it.
    os._exit(1)
