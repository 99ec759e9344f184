"""The table of settings: the reference has a row for each, flags of the command line are those, no name is twice."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from keywright.cli.app import app
from keywright.runtime.settings.kinds import Part, Setting
from keywright.runtime.settings.table import BY_NAME, OLD_NAMES, SETTINGS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/settings.md").read_text()
TOLD = [setting for setting in SETTINGS if setting.parts != {Part.TESTS}]
NAME = re.compile(r"\bKEYWRIGHT_[A-Z][A-Z0-9_]*[A-Z0-9]\b")
READ = {".py", ".md", ".yml", ".yaml", ".cfg", ".conf", ".toml", ".lua", ".sh", ""}
OF_OTHERS = {"KEYWRIGHT_ELSEWHERE"}
"""The name of a setting of Django's in a test."""


@pytest.mark.parametrize("setting", TOLD, ids=lambda setting: setting.name)
def test_a_setting_has_its_row_in_the_reference(setting: Setting[Any]) -> None:
    assert f"\n{setting.row}\n" in PAGE


def test_the_reference_has_no_other_rows() -> None:
    rows = re.findall(r"^\| `(KEYWRIGHT_\w+)` \|.*\|.*\|.*\|$", PAGE, re.MULTILINE)
    assert Counter(rows) == Counter(setting.name for setting in TOLD)
    old = re.findall(r"^\| `(KEYWRIGHT_\w+)` \| `(KEYWRIGHT_\w+)`[^|]*\|$", PAGE, re.MULTILINE)
    assert dict(old) == {name: setting.name for name, setting in OLD_NAMES.items()}


def test_a_name_has_one_meaning() -> None:
    assert not set(BY_NAME) & set(OLD_NAMES)
    assert len(BY_NAME) == len(SETTINGS)


def test_options_of_the_command_line_name_their_settings() -> None:
    found = {(parameter.envvar, flag) for parameter in _options(app) for flag in parameter.opts if parameter.envvar}
    assert found == {(setting.name, setting.flag) for setting in SETTINGS if setting.flag}


def test_every_variable_that_the_project_names_is_in_the_table() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {"CHANGELOG.md", "docs/reference/settings.md"}
    files = [ROOT / name for name in listing.splitlines() if name not in told and not name.startswith("docs/decisions")]
    unknown = {
        f"{name} in {file.relative_to(ROOT)}"
        for file in files
        if file.is_file()
        and file.suffix in {".py", ".md", ".yml", ".yaml", ".cfg", ".conf", ".toml", ".lua", ".sh", ""}
        and "runtime/settings" not in str(file)
        for name in NAME.findall(file.read_text(errors="replace"))
        if name not in BY_NAME and name not in OLD_NAMES and name not in OF_OTHERS
    }
    assert unknown == set()


def _options(group: typer.Typer) -> Iterator[Any]:
    command = typer.main.get_command(group)
    waiting: list[Any] = [command]
    while waiting:
        one = waiting.pop()
        waiting.extend(getattr(one, "commands", {}).values())
        yield from (parameter for parameter in one.params if hasattr(parameter, "envvar"))
