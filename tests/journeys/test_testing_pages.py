"""The pages that test an app: their files are written, and their tests pass where nothing of Keywright's is set up."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs/how-to").glob("test-a*-app.md"))
_PART = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_tests_an_app_without_keywright(page: Path, tmp_path: Path) -> None:
    commands = []
    for language, block in _PART.findall(page.read_text()):
        if language == "python":
            (tmp_path / block.split("\n", 1)[0].removeprefix("# ")).write_text(block)
        else:
            commands += [shlex.split(line) for line in block.splitlines()]
    assert commands
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    variables = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    for command in commands:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, " passed" in done.stdout) == (0, True), done.stdout
    assert " warning" not in done.stdout
