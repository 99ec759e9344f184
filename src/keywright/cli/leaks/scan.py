"""Owns `keywright scan`: which files are looked into for keys, and what is told of those that are found."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from keywright.cli.columns import plain
from keywright.cli.leaks.finder import Found, find_keys
from keywright.cli.leaks.options import parse_prefixes, read_fingerprints
from keywright.cli.printing import Answer, fail, note, show_json
from keywright.cli.shared_options import example
from keywright.domain.keyformat import MANAGEMENT_PREFIX, mask

EXAMPLES = example(
    "keywright scan .",
    "git log -p --all | keywright scan -    # what was ever committed",
    "keywright scan --prefix acme_live --json src",
)
STANDARD_INPUT = "-"
FOUND, UNREADABLE = 1, 3
"""Exit codes. A scan that could not read all of it and found nothing says so, instead of 0."""
_SKIPPED = ".git"


def scan(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, directories with all that is in them (but .git), or '-' for standard input.",
            show_default=False,
        ),
    ],
    *,
    prefix: Annotated[
        list[str] | None,
        typer.Option("--prefix", help="Look for keys that begin so only, and management keys; repeatable."),
    ] = None,
    allow: Annotated[
        Path | None,
        typer.Option("--allow", metavar="FILE", help="Pass over keys whose fingerprints are there, one on each line."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for keys in files, by their checksum.

    What is found is a key of this format, live or not, and no key is shown
    whole. Nothing is sent anywhere. Custom keys have no form to be found by.
    Exit code: 0 for no key, 1 for keys, 3 for no key where not all was readable.
    """
    prefixes = {*parse_prefixes(prefix), MANAGEMENT_PREFIX} if prefix else set()
    allowed = read_fingerprints(allow)
    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for path in paths:
        for name in _files_in(path, unreadable):
            for found in _keys_in(name, prefixes, unreadable):
                if found.fingerprint in allowed:
                    continue
                rows.append(_to_json(name, found))
                if not as_json:
                    typer.echo(_to_line(rows[-1]))
    if as_json:
        value = {"data": rows, "total": len(rows), "unreadable": [_shown(name) for name in unreadable]}
        show_json(Answer(json.dumps(value, ensure_ascii=False), value))
    elif rows:
        note(f"Keys found: {len(rows)}. Take them out, and roll or revoke those that are live.")
    raise typer.Exit(FOUND if rows else UNREADABLE if unreadable else 0)


def _files_in(path: str, unreadable: list[str]) -> Iterator[str]:
    """The file itself, or the regular files of a directory, in order. Links are followed only where they are named."""
    if path == STANDARD_INPUT or not os.path.isdir(path):
        yield path
        return
    directories = [path]
    while directories:
        directory = directories.pop()
        below = []
        try:
            with os.scandir(directory) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode) and entry.name != _SKIPPED:
                        below.append(entry.path)
                    elif stat.S_ISREG(mode):
                        yield entry.path
        except OSError as error:
            _tell(directory, error, unreadable)
        directories += reversed(below)


def _keys_in(name: str, prefixes: set[str], unreadable: list[str]) -> Iterator[Found]:
    try:
        if name == STANDARD_INPUT:
            yield from find_keys(sys.stdin.buffer, prefixes)
            return
        with open(name, "rb", buffering=0) as file:
            yield from find_keys(file, prefixes)
    except OSError as error:
        _tell(name, error, unreadable)


def _tell(name: str, error: OSError, unreadable: list[str]) -> None:
    unreadable.append(name)
    fail(f"can't read {plain(_shown(name))}: {(error.strerror or 'no reason given').lower()}")


def _to_json(name: str, found: Found) -> dict[str, Any]:
    return {
        "path": _shown(name),
        "line": found.line,
        "column": found.column,
        "kind": "management-key" if found.prefix == MANAGEMENT_PREFIX else "api-key",
        "prefix": found.prefix,
        "masked": mask(found.hint),
        "fingerprint": found.fingerprint,
    }


def _to_line(row: dict[str, Any]) -> str:
    kind = row["kind"].replace("-", " ")
    place = f"{plain(row['path'])}:{row['line']}:{row['column']}"
    return f"{place}: {kind} {row['prefix']}_{row['masked']} (fingerprint {row['fingerprint']})"


def _shown(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return os.fsencode(name).decode(errors="backslashreplace")
