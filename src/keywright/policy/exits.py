"""Owns closing sources that nobody closed when the interpreter ends, so that what was counted last is not lost."""

from __future__ import annotations

import atexit

# Before ours is registered: what was registered last is called first, and sources still need threads to close.
import concurrent.futures.thread  # noqa: F401
import contextlib
import logging
import threading
import weakref
from typing import Protocol

_log = logging.getLogger(__name__)


class Closable(Protocol):
    """A source."""

    def close(self) -> None: ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_at_exit(source: Closable) -> None:
    """Have the source closed, if it is there until then. A process that is killed closes nothing."""
    _open.add(source)


def _close_all() -> None:
    for source in list(_open):
        try:
            source.close()
        except Exception:  # noqa: BLE001
            _log.exception("a replica can't be closed at the end")


# `atexit` itself comes when no thread can be started any more, which an event loop does.
_register = getattr(threading, "_register_atexit", atexit.register)
with contextlib.suppress(RuntimeError):
    # Loaded while the interpreter ends: nothing is counted then.
    _register(_close_all)
