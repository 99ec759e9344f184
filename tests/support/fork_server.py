"""Starts our commands from a process that has loaded what they load: a start costs a fork, and no second of loading.

What runs is `main` of the command line, with the arguments, variables and output that it is given, in a process with a
session of its own, and its workers are processes as ever. What a fork does not show, a start from nothing, is for the
tests of starts (`ServeProcess(..., from_nothing=True)`), and for all where Python itself is told something.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

LOADED = {"serve": "keywright.serve.worker", "edge": "keywright.edge.worker"}
"""What a command's workers load. Each has a fork server of its own: an edge has nothing of the origin in it."""
_OWN = "KEYWRIGHT_"
_IGNORED = {"PYTEST_CURRENT_TEST", "TERM"}


class Forked:
    """As `subprocess.Popen`, of a process that the fork server started."""

    def __init__(self, server: ForkServer, pid: int, args: Sequence[str]) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        began = time.monotonic()
        while (code := self.poll()) is None:
            waited = time.monotonic() - began
            if timeout is not None and waited > timeout:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(min(max(0.001, waited / 20), 0.05))
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The side that tests ask. It ends with this process, which holds the other end of its socket."""

    def __init__(self, command: str) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "keywright", str(theirs.fileno()), LOADED[command]],
                env=without_ours(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is for those who ask.
                start_new_session=True,
            )

    def start(self, args: Sequence[str], env: Mapping[str, str], output: BinaryIO, errors: BinaryIO) -> Forked:
        told = {"args": list(args), "env": dict(env), "directory": os.getcwd()}
        return Forked(self, self.ask(told, output.fileno(), errors.fileno()), args)

    def close(self) -> None:
        self._ours.close()
        self.process.wait()

    def ask(self, told: dict[str, Any], *files: int) -> Any:
        attached = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        with self._lock:
            self._ours.sendmsg([json.dumps(told).encode()], attached)
            return json.loads(self._ours.recv(65536))


def find(command: str, env: Mapping[str, str]) -> ForkServer | None:
    """The server that starts this command, if a fork of it is what would start: not where Python is told something."""
    if command not in LOADED or not sys.platform.startswith("linux"):
        return None
    server, started_with = _server(command, os.getpid())
    return server if without_ours(env) == started_with else None


@functools.cache
def _server(command: str, _pid: int) -> tuple[ForkServer, dict[str, str]]:
    server = ForkServer(command)
    atexit.register(server.close)
    return server, without_ours(os.environ)


def without_ours(env: Mapping[str, str]) -> dict[str, str]:
    """What the interpreter and libraries may read when they are loaded."""
    return {name: value for name, value in env.items() if not name.startswith(_OWN) and name not in _IGNORED}


def serve(fd: int, module: str) -> dict[str, Any] | None:
    """In the server: forks on request, until nobody asks any more. In a fork it returns what that was told."""
    import gc
    import importlib

    importlib.import_module("keywright.cli.app")
    importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=fd) as asking:
        while True:
            data, files, _, _ = socket.recv_fds(asking, 1 << 20, 4)
            if not data:
                return None
            told: dict[str, Any] = json.loads(data)
            answer: int | None = None
            if "poll" in told:
                ended, status = os.waitpid(told["poll"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if ended else None
            else:
                ready, tell = os.pipe()
                answer = os.fork()
                if answer == 0:
                    os.close(ready)
                    _become(told, *files)
                    # Only now can its group be signalled.
                    os.close(tell)
                    return told
                os.close(tell)
                os.read(ready, 1)
                os.close(ready)
            for file in files:
                os.close(file)
            asking.sendall(json.dumps(answer).encode())


def _become(told: dict[str, Any], output: int, errors: int) -> None:
    os.setsid()
    os.chdir(told["directory"])
    os.environ.clear()
    os.environ.update(told["env"])
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    sys.argv = told["args"]


def main() -> None:
    # As of a script: beside it there is nothing of ours to be loaded by another name.
    sys.path[0] = os.path.dirname(sys.executable)
    if sys.platform == "linux":
        # By that name, and that argument, it is known to whoever looks for what has a port.
        import ctypes

        ctypes.CDLL(None).prctl(15, b"keywright", 0, 0, 0)
    with contextlib.suppress(ConnectionError):
        if serve(int(sys.argv[2]), sys.argv[3]) is None:
            return
    from keywright.cli.app import main as command

    sys.exit(command())  # type: ignore[func-returns-value]


if __name__ == "__main__":
    main()
