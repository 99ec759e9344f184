"""Owns what the commands against leaks are told: prefixes, and keys to be passed over."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from keywright.domain.keyformat import MANAGEMENT_PREFIX, find_prefix_fault

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_COMMENT = "#"


def parse_prefixes(given: list[str] | None) -> set[str]:
    """Prefixes of keys. That of management keys needs not be given, but may. Raises BadParameter."""
    for prefix in given or []:
        fault = None if prefix == MANAGEMENT_PREFIX else find_prefix_fault(prefix)
        if fault is not None:
            raise typer.BadParameter(fault, param_hint="--prefix")
    return set(given or [])


def read_fingerprints(file: Path | None) -> set[str]:
    """The fingerprints in a file, one on each line; what follows `#` is for people. Raises BadParameter."""
    if file is None:
        return set()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"can't read {file}: {error}", param_hint="--allow") from None
    told = {number: line.partition(_COMMENT)[0].strip() for number, line in enumerate(lines, 1)}
    for number, fingerprint in told.items():
        if fingerprint and _FINGERPRINT.fullmatch(fingerprint) is None:
            # Not repeated: somebody may have put the key itself there.
            raise typer.BadParameter(f"line {number} of {file} is no fingerprint: 64 hex digits", param_hint="--allow")
    return {fingerprint for fingerprint in told.values() if fingerprint}
