"""`keywright key inspect` tells what a text could be, without sending it and without showing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import CommandLine

RIGHT = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
WRONG = "zpka_d67b7e241bb948758f415b79aa8ec823_2efb7009"
CASES = {
    "generated": (RIGHT, 0, "generated", "zpka", "right", "****2efb7009", None),
    "own prefix": (
        "acme_d67b7e241bb948758f415b79aa8ec822_2efb7009",
        0,
        "generated",
        "acme",
        "right",
        "****2efb7009",
        None,
    ),
    "checksum": (WRONG, 1, "generated", "zpka", "wrong", "****2efb7009", "a character is wrong"),
    "custom": ("correct-horse-battery-staple-0001", 0, "custom", None, None, "****ple-0001", None),
    "short custom": ("12345678", 0, "custom", None, None, "****78", None),
    "cut short": (RIGHT[:-1], 0, "custom", None, None, "****_2efb700", "cut short"),
    "too short": ("1234567", 1, "malformed", None, None, "****", "it has 7 characters"),
    "too long": ("x" * 513, 1, "malformed", None, None, "****xxxxxxxx", "it has 513 characters"),
    "empty line": ("\n", 1, "malformed", None, None, "****", "character 1"),
    "space": (f"Bearer {RIGHT}", 1, "malformed", None, None, "****2efb7009", "character 7 is a space"),
    "not ASCII": ("clé-secrète-0001", 1, "malformed", None, None, "****0001", "character 3 is not a printable ASCII"),
    "escape": ("0123456789012345678\x1b[2J", 1, "malformed", None, None, "****8\\x1b[2J", "character 20"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_text_could_be(keywright: CommandLine, case: tuple[str, ...]) -> None:
    text, exit_code, form, prefix, checksum, masked, note = case

    result = keywright("key", "inspect", "-", "--json", stdin=f"{text}\n")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["isPossible"]) == (exit_code, exit_code == 0)
    assert (found["format"], found["prefix"], found["checksum"]) == (form, prefix, checksum)
    assert found["masked"] == masked
    assert note is None if found["note"] is None else note in found["note"]
    assert not keywright.api.requests


@pytest.mark.parametrize("text", [RIGHT, WRONG, f"Bearer {RIGHT}", RIGHT[:-1]])
def test_the_secret_is_not_repeated(keywright: CommandLine, text: str) -> None:
    result = keywright("key", "inspect", text)

    assert "d67b7e241bb948758f415b79aa8ec82" not in result.output
    assert "masked" in result.stdout


def test_a_windows_line_end_is_no_part_of_the_key(keywright: CommandLine) -> None:
    assert keywright("key", "inspect", "-", stdin=f"{RIGHT}\r\n").exit_code == 0


def test_bytes_that_are_no_text_are_malformed(keywright: CommandLine) -> None:
    result = keywright("key", "inspect", "-", stdin=b"\xff\xfe0123456789")

    assert result.exit_code == 1
    assert "malformed" in result.stdout


def test_nothing_on_standard_input(keywright: CommandLine) -> None:
    result = keywright("key", "inspect", "-", stdin="")

    assert (result.exit_code, result.stderr) == (1, "keywright: standard input is empty\n")
