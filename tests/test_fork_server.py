"""What the fork server starts is what the command would be, and it starts nothing where that could differ."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from keywright import __version__
from support import fork_server
from support.api import VARIABLES
from support.process import COMMAND, ServeProcess, run_command


@pytest.mark.parametrize(
    "arguments", [["--version"], ["no-such-command"], ["root-key", "create", "--data-dir", "/none"]]
)
def test_a_command_says_and_returns_what_it_does_when_it_is_loaded_anew(arguments: list[str]) -> None:
    forked = run_command(*arguments)
    environment = {**os.environ, "TERM": "dumb"}
    anew = subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert (forked.returncode, forked.stdout, forked.stderr) == (anew.returncode, anew.stdout, anew.stderr)
    assert arguments != ["--version"] or forked.stdout == f"keywright {__version__}\n"


def test_a_service_has_a_session_of_its_own_and_ends_with_its_code(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", **VARIABLES).wait_until_ready() as served:
        assert isinstance(served.process, fork_server.Forked)
        assert os.getsid(served.process.pid) == served.process.pid
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(0.01)
        assert served.stop() == 0
    with ServeProcess(tmp_path / "data", **VARIABLES) as served:
        served.kill()
        assert served.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONPROFILEIMPORTTIME", "LANG", "SSL_CERT_FILE"])
def test_where_the_interpreter_is_told_something_nothing_is_forked(name: str) -> None:
    assert fork_server.find("edge", os.environ) is not None
    assert fork_server.find("edge", {**os.environ, name: "told"}) is None
    assert fork_server.find("edge", {**os.environ, "KEYWRIGHT_REGION": "told"}) is not None
