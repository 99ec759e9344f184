"""Owns Granian with another answer to a worker that dies: its own starts one at once, and ends if that dies, too.

Only the loop that waits for the ends of workers is ours. What it calls is private to Granian: a version that names it
otherwise goes on with its own loop, which tests/serve/test_processes.py would tell.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import Any

from granian.server.mp import MPServer

from keywright.runtime.processes.restarts import MAX_DEATHS, SETTLED_SECONDS, Restarts, pause_seconds

_log = logging.getLogger(__name__)

IDLE_SECONDS = 3600.0


class SupervisedServer(MPServer):
    """Granian, whose workers are started anew with growing pauses, and which says why it gives up."""

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        restarts = Restarts()
        due: dict[int, float] = {}
        """When which worker is started anew, in monotonic seconds."""
        while True:
            self.main_loop_interrupt.wait(max(0.0, min(due.values()) - time.monotonic()) if due else IDLE_SECONDS)
            # Cleared before it is read what there is: an end that comes now wakes the next round.
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                return
            while self.interrupt_children:
                number = self.interrupt_children[0]
                pause = self._pause_after_death(number, restarts)
                if pause is None:
                    # It stays in the list, by which Granian ends with 1.
                    return
                self.interrupt_children.pop(0)
                due[number] = time.monotonic() + pause
            if self.reload_signal:
                due.clear()
                self._reload(spawn_target, target_loader)  # type: ignore[no-untyped-call]
            ready = [number for number, at in due.items() if at <= time.monotonic()]
            if ready:
                self._respawn_workers(ready, spawn_target, target_loader)
                for number in ready:
                    del due[number]

    def _pause_after_death(self, number: int, restarts: Restarts) -> float | None:
        worker = self.wrks[number]
        lived = time.monotonic() - worker.birth
        name = f"worker {number + 1} (pid {worker.inner.pid})"
        end = _name_of_end(worker.inner.exitcode)
        deaths = restarts.note_death(number, lived)
        pause = pause_seconds(deaths)
        if pause is None:
            _log.critical(
                "%s ended %.1f s after its start: %s. That was the %dth time in a row, none of them within %.0f s of "
                "work: Keywright stops. The lines above say why its workers end; mend that, then start it again.",
                *(name, lived, end, deaths, SETTLED_SECONDS),
            )
        else:
            _log.error(
                "%s ended %.1f s after its start: %s. It is started anew in %.1f s (%d of %d times in a row).",
                *(name, lived, end, pause, deaths, MAX_DEATHS - 1),
            )
        return pause


def _name_of_end(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    # The kernel's own killer leaves no other trace in this process.
    return f"killed by {name}" + (
        " (by hand, or for want of memory: see the kernel's log)" if name == "SIGKILL" else ""
    )
