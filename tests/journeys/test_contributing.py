"""The commands of CONTRIBUTING.md, as they stand there: they run a test, trace a request, dump a replica, show SQL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from support.ports import free_port
from support.process import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parents[1]


def blocks_of(section: str) -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (part,) = re.findall(rf"^{section}$(.*?)(?=^##+ |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def run(script: str, directory: Path, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the names that a reader's checkout has."""
    (tmp_path / ".venv").symlink_to(VENV)
    return tmp_path


def test_the_commands_that_run_tests_find_them() -> None:
    (block,) = blocks_of("## Run one test")
    commands = block.strip().splitlines()

    for path in (command.split()[3] for command in commands):
        assert (ROOT / path).exists(), path
    assert " passed" in run(commands[0].replace(".venv/bin/python", sys.executable), ROOT)


def test_the_commands_that_debug_do_what_they_say(checkout: Path) -> None:
    trace, follow = blocks_of("### Trace a request")
    dump, snapshot = blocks_of("### Dump a replica")
    with ServeProcess(checkout / "keywright-data", from_nothing=True).wait_until_ready() as served:
        names = {"API_KEY": served.printed("API_KEY"), "BUCKET_NAME": served.printed("BUCKET_NAME")}

        def told(script: str) -> str:
            here = script.replace("http://127.0.0.1:8080", served.url).replace("curl ", "curl -sS ")
            return run(here, checkout, **names)

        traced = told(trace)
        assert "x-request-id: my-trace-1" in traced
        assert '"url": "/v1/accounts/my-account/key-buckets/my-project-production/consumers"' in traced
        assert '"requestId": "my-trace-1"' in traced
        assert '"success": true' in traced
        revision = int(re.findall(r"keywright-revision: (\d+)", traced)[0])

        followed = told(follow)
        assert f'"revision":{revision}' in followed.replace(" ", "")
        assert '{"valid":false,"code":"MALFORMED"}' in followed or '{"valid":false,"code":"UNKNOWN"}' in followed

        assert "my-project-production->" in told(dump)
        assert re.search(r"^buckets +3$", told(snapshot), re.MULTILINE)


def test_the_command_that_shows_sql_shows_statements_and_no_values(checkout: Path) -> None:
    (block,) = blocks_of("### See the SQL")
    port, key = free_port(), "a-root-key-of-this-test-alone-0001"
    log = checkout / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {block.strip()} --port {port}"],
            cwd=checkout,
            env={"PATH": os.environ["PATH"], "KEYWRIGHT_BOOTSTRAP_KEY": key},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while b"is ready" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        answer = httpx2.post(
            f"{url}/v1/accounts/my-account/key-buckets/my-project-production/consumers?with-api-key=true",
            json={"name": "acme", "metadata": {"plan": "metadata-of-this-test"}},
            headers={"authorization": f"Bearer {key}"},
        )
        (made,) = answer.json()["apiKeys"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    shown = log.read_text()
    assert "INSERT INTO keys" in shown
    for value in (key, made["key"], "metadata-of-this-test"):
        assert value not in shown
