"""Owns notes that a process writes again and again, for its next start and for others: one JSON document in a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keywright.runtime import atomic_file

if TYPE_CHECKING:
    import logging
    from pathlib import Path


class NoteFile:
    """One file. That it can't be written is logged once, with what follows from it (`so`)."""

    def __init__(self, path: Path, log: logging.Logger, *, so: str = "") -> None:
        self._path = path
        self._log = log
        self._so = f", so {so}" if so else ""
        self._has_warned = False

    def read(self) -> Any:
        """What was noted last. Raises OSError, and ValueError for what is no JSON."""
        return json.loads(self._path.read_text())

    def write(self, noted: Any, *, is_durable: bool = False) -> bool:
        """Whether it was written. Without `is_durable` a power cut may take it away."""
        try:
            atomic_file.write(self._path, json.dumps(noted).encode(), is_durable=is_durable)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                self._log.warning("can't write %s%s: %s", self._path, self._so, error.strerror)
            return False
        return True
