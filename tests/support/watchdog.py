"""Runs a command that starts pytest, and ends it with all that it started if it does not go on.

pytest-timeout ends a test that takes too long, from a thread of the test's own process. What that can't end, ends here:
an interpreter that no longer gives its threads a turn, a controller that waits for ever, a run that does not exit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support import progress

PR_SET_CHILD_SUBREAPER = 36
REAP_SECONDS = 0.2


def run(command: Sequence[str], *, cwd: Path, silent_seconds: float = 300) -> int:
    """The command's exit code; 1 if no test began or ended for so long, or one process was at one test for so long."""
    _adopt_orphans()
    # An end that was asked for ends the processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="keywright-progress-") as directory:
        watch = _Watch(Path(directory), silent_seconds)
        started = subprocess.Popen(command, cwd=cwd, env={**os.environ, progress.VARIABLE: directory})
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return started.wait(min(REAP_SECONDS, silent_seconds / 10))
                _reap(started)
                if silence := watch.find_silence():
                    _print(f"\nNo progress for {silent_seconds:g} seconds: {silence}.")
                    watch.print_stacks()
                    return 1
        except KeyboardInterrupt:
            # The terminal asked the command as well, which says how far it got.
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(30)
            return 130
        finally:
            _end(started)


@dataclass
class _Watch:
    directory: Path
    silent_seconds: float
    _seen: dict[Path, tuple[int, str]] = field(default_factory=dict)
    """What a process's file was last seen to hold, and from when that is."""
    _changed: dict[Path, float] = field(default_factory=dict)
    """When that was first seen, by a clock that is never set."""
    _started: float = field(default_factory=time.monotonic)

    def find_silence(self) -> str | None:
        now = time.monotonic()
        for file in self.directory.iterdir():
            content = file.stat().st_mtime_ns, file.read_text(errors="replace")
            if self._seen.get(file) != content:
                self._seen[file], self._changed[file] = content, now
        if now - max(self._changed.values(), default=self._started) > self.silent_seconds:
            return "no test began or ended"
        for file, changed in self._changed.items():
            is_late = self.test_of(file) and now - changed > self.silent_seconds
            # One that a timeout ended leaves behind what it was at.
            if is_late and int(file.name) in _descendants():
                return f"process {file.name} is still at {self.test_of(file)}"
        return None

    def test_of(self, file: Path) -> str:
        return "" if file.suffix else self._seen.get(file, (0, ""))[1]

    def print_stacks(self) -> None:
        living = _descendants()
        files = [file for file in sorted(self.directory.glob(f"*{progress.STACKS}")) if int(file.stem) in living]
        for file in files:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.stem), progress.SIGNAL)
        time.sleep(1)
        for file in files:
            stacks = file.read_text(errors="replace").strip() or "It printed no stacks."
            _print(f"\nProcess {file.stem}, at {self.test_of(file.with_suffix('')) or 'no test'}:\n{stacks}")


def _adopt_orphans() -> None:
    """What a killed process leaves running becomes a child of this one, and is found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(started: subprocess.Popen[bytes]) -> None:
    """Let go of orphans that have ended: a test may wait until a process that it killed is no longer there."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        for child in map(int, children.read_text().split()):
            if child != started.pid:
                os.waitpid(child, os.WNOHANG)


def _descendants() -> set[int]:
    """The living processes below this one, where the system has /proc."""
    children: dict[int, list[int]] = {}
    ended = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may have spaces in it.
            state, parent = file.read_text(errors="replace").rpartition(")")[2].split()[:2]
            process_id = int(file.parent.name)
            children.setdefault(int(parent), []).append(process_id)
            if state == "Z":
                ended.add(process_id)
    found = list(children.get(os.getpid(), ()))
    for one in found:
        # Also of one that has ended: it may have been read after its children were, which have another parent by now.
        found += children.get(one, ())
    return set(found) - ended


def _end(started: subprocess.Popen[bytes]) -> None:
    """Kills all that is left. Of a run that was not cut off that is nothing, once what is about to end has ended."""
    deadline = time.monotonic() + 1
    while started.poll() is not None and _descendants() and time.monotonic() < deadline:
        time.sleep(0.02)
    if started.poll() is not None and (left := _descendants()):
        _print(f"\nLeft running by tests, and ended now: {', '.join(_command_of(one) for one in sorted(left))}")
    started.kill()
    # What is killed may have started another in the meantime.
    while left := _descendants():
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.02)
    started.wait()


def _command_of(process_id: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process_id}/cmdline").read_text(errors="replace").replace("\0", " ").strip()[:200]
    return str(process_id)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
