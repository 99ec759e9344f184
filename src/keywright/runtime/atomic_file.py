"""Owns writing a file so that whoever reads it sees the old content or the new one, whole, also after a crash.

Files made here are their owner's alone (mode 0600). All of it raises OSError.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write(path: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Put content into a file in the place of what it had. When this returns, a power cut takes nothing of it away.

    Without `is_durable` nothing waits for the disk: for notes that are written again and again and missed by nobody.
    """
    with replacing(path, is_durable=is_durable) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, is_durable: bool = True) -> Iterator[BinaryIO]:
    """A new file beside `path`, to be written to, which takes that name when the block ends without a failure."""
    waiting = _beside(path)
    try:
        with _open_new(waiting) as file:
            yield file
            _finish(file, is_durable)
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)
    if is_durable:
        sync_directory(path.parent)


def create(path: Path, content: bytes) -> bool:
    """Make a file with this content if there is none; whether that was so. Of several that try at once one does."""
    waiting = _beside(path)
    try:
        with _open_new(waiting) as file:
            file.write(content)
            _finish(file, is_durable=True)
        try:
            # A link, unlike a rename, replaces nothing.
            os.link(waiting, path)
        except FileExistsError:
            return False
    finally:
        waiting.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    # By the process and the thread, so that nobody writes it too, and what a kill leaves behind is soon written over.
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.part")


def _open_new(path: Path) -> BinaryIO:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _finish(file: BinaryIO, is_durable: bool) -> None:
    file.flush()
    if is_durable:
        os.fsync(file.fileno())
