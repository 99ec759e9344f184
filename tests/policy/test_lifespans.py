"""A start that fails behind the policy, or in it, is a failed start of the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy.test_servers import TESTS
from support.postgres import free_port


@pytest.mark.parametrize(
    ("app", "lifespan", "said"),
    [
        ("RAISING", "on", "no database"),
        ("WITHOUT_PEPPER", "on", "pepper.key is missing"),
        # Of an application's own exception a server that only tries lifespans makes nothing, but of a failure it does.
        ("WITHOUT_PEPPER", "auto", "pepper.key is missing"),
    ],
)
def test_a_start_that_fails_ends_uvicorn(tmp_path: Path, app: str, lifespan: str, said: str) -> None:
    arguments = ["--lifespan", lifespan, "--host", "127.0.0.1", "--port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", *arguments, f"policy.failing:{app}"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "APP_DIRECTORY": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert "startup complete" not in done.stderr
