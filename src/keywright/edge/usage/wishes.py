"""Owns the note of what the origin wishes to be told of usage, by which all processes on the machine count alike.

Whoever delivers is told, once a minute; the others read its note. Without one, or with another deployment's, nothing is
recorded beyond counts.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from keywright.runtime import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

_NOTE = "wishes.json"
NOTHING: frozenset[int] = frozenset()


class Wishes:
    """Of one directory of usage, for one process."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NOTE
        self._read_at = (0, 0)
        self._deployment_id = ""
        self._recording = NOTHING

    def put(self, deployment_id: str, recording: frozenset[int]) -> None:
        """Note the numbers of the buckets that record addresses. Raises OSError."""
        text = json.dumps({"deployment": deployment_id, "recordAddresses": sorted(recording)}).encode()
        try:
            noted = self._path.read_bytes()
        except FileNotFoundError:
            noted = None
        if noted != text and (recording or noted is not None):
            # Told again a minute after a power cut.
            atomic_file.write(self._path, text, is_durable=False)

    def find(self, deployment_id: str) -> frozenset[int]:
        """The numbers of the buckets that record addresses, in this deployment."""
        noted_for, recording = self._look()
        return recording if noted_for == deployment_id else NOTHING

    def _look(self) -> tuple[str, frozenset[int]]:
        try:
            found = self._path.stat()
        except OSError:
            return "", NOTHING
        if (found.st_mtime_ns, found.st_ino) != self._read_at:
            self._read_at = found.st_mtime_ns, found.st_ino
            self._deployment_id, self._recording = "", NOTHING
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                noted = json.loads(self._path.read_bytes())
                self._recording = frozenset(int(number) for number in noted["recordAddresses"])
                self._deployment_id = str(noted["deployment"])
        return self._deployment_id, self._recording
