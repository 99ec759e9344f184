"""Owns reading a secret of the deployment, which is a variable or a file; the pepper is one that both planes read."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import stat
from pathlib import Path

from keywright.domain.keyformat import Digester, Secret

PEPPER_BYTES = 32
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyFileError(Exception):
    """A secret is missing or is none; the message says which and where it was looked for."""


def load_digester(pepper: Secret | None, pepper_file: Path) -> Digester:
    """Raises KeyFileError."""
    place, text = text_of(pepper, "KEYWRIGHT_PEPPER", pepper_file)
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise KeyFileError(f"the pepper in {place} is not base64") from None
    if len(decoded) < PEPPER_BYTES:
        raise KeyFileError(f"the pepper in {place} has {len(decoded)} bytes; {PEPPER_BYTES} are needed")
    return Digester(decoded)


def check_private(*files: Path | None) -> None:
    """Raises KeyFileError for a file of this user that others may read or write, as ssh does with its keys.

    One that belongs to somebody else is theirs to guard: a mounted secret is root's. None, and what is not there, are
    passed over: whoever reads it says so.
    """
    for path in files:
        try:
            found = path.stat() if path is not None else None
        except OSError:
            continue
        if found is None or not stat.S_ISREG(found.st_mode):
            continue
        if found.st_uid == os.geteuid() and found.st_mode & OTHERS:
            mode = stat.S_IMODE(found.st_mode)
            raise KeyFileError(
                f"{path} may be read or written by others (mode {mode:04o}): chmod 600 {shlex.quote(str(path))} "
                "(of a mounted secret: its mode, such as defaultMode: 0400)"
            )


def text_of(given: Secret | None, variable: str, path: Path) -> tuple[str, str]:
    """Where the secret was found, and its text. Raises KeyFileError."""
    if given is not None:
        return variable, given.reveal()
    try:
        return str(path), path.read_text("ascii")
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing (and {variable} is not set)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'not text'}") from None
