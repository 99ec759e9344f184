"""Owns the two secrets of a deployment on this machine, pepper and master keys: variables or files, never rows."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from keywright.domain.keyformat import Digester
from keywright.origin.keys.vault import KEY_BYTES, KeyRing
from keywright.runtime import atomic_file, secret_files
from keywright.runtime.secret_files import PEPPER_BYTES, KeyFileError, text_of
from keywright.runtime.settings import OriginSettings

__all__ = ["KeyFileError", "alone_in", "check_private", "load_digester", "load_ring", "make_missing", "store_ring"]

LOCK_SECONDS = 0.05


@asynccontextmanager
async def alone_in(data_dir: Path) -> AsyncIterator[None]:
    """Keeps other starts and commands from this data directory, until the block ends.

    Two first starts at once would each make a pepper, and two rotations would each forget the other's master key.
    """
    lock = os.open(data_dir / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        yield
    finally:
        os.close(lock)


def check_private(settings: OriginSettings) -> None:
    """Raises KeyFileError for a file of a secret that others may read."""
    master_key_file = settings.master_key_file if settings.master_key is None else None
    secret_files.check_private(*settings.private_files, master_key_file)


def make_missing(settings: OriginSettings) -> None:
    """Makes the files that the first start needs; what is given as a variable needs none."""
    if settings.pepper is None and not settings.pepper_file.exists():
        atomic_file.create(settings.pepper_file, base64.b64encode(secrets.token_bytes(PEPPER_BYTES)) + b"\n")
    if settings.master_key is None and not settings.master_key_file.exists():
        atomic_file.create(settings.master_key_file, KeyRing.of(secrets.token_bytes(KEY_BYTES)).format().encode())


def load_digester(settings: OriginSettings) -> Digester:
    """Raises KeyFileError."""
    return secret_files.load_digester(settings.pepper, settings.pepper_file)


def load_ring(settings: OriginSettings) -> KeyRing:
    """Raises KeyFileError."""
    place, text = text_of(settings.master_key, "KEYWRIGHT_MASTER_KEY", settings.master_key_file)
    try:
        return KeyRing.parse(text)
    except ValueError as error:
        raise KeyFileError(f"the master key in {place} {error}") from None


def store_ring(settings: OriginSettings, ring: KeyRing) -> None:
    """Replaces the master key file in one step: a crash leaves the old one or the new one."""
    atomic_file.write(settings.master_key_file, ring.format().encode())
