"""Tests of pure rules begin at once: neither plugins nor shared fixtures load what only other tests need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("alembic", "coverage", "fastapi", "granian", "httpx2", "jinja2", "playwright", "pydantic", "schemathesis",
         "sqlalchemy", "starlette")  # fmt: skip
RUN = """
import sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
sys.exit(code or f"loaded: {sorted(set(%r) & sys.modules.keys())}")
"""


def test_a_pure_test_loads_no_library_of_the_service() -> None:
    pure = next((ROOT / "tests").rglob("test_identity_headers.py"))
    command = [sys.executable, "-c", RUN % (HEAVY,), pure]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "loaded: []", done.stdout + done.stderr
