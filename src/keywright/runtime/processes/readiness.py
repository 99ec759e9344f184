"""Owns a worker's word to its main process that it is ready to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_T = TypeVar("_T")
_teller: Connection | None = None
"""In a worker: the end of a pipe that the main process waits at."""


def load_told_by(teller: Connection, load: Callable[[], _T]) -> _T:
    """In a worker: what `load` gives, which is ready when `tell` is called."""
    global _teller  # noqa: PLW0603
    _teller = teller
    return load()


def tell() -> None:
    global _teller  # noqa: PLW0603
    if _teller is not None:
        _teller.send(True)
        _teller.close()
        _teller = None
