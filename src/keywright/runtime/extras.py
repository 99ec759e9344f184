"""Owns what a deployment may do without: which extra brings a library in, and saying so where it is missing."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtra(Exception):
    """A library is not installed that what was asked for needs; the message says how to get it."""


def require(module: str, extra: str, purpose: str) -> None:
    """Raises MissingExtra where `module` is not installed, which `keywright[extra]` brings for this purpose."""
    if find_spec(module) is None:
        raise MissingExtra(f"{purpose} needs the extra {extra}: pip install 'keywright[{extra}]'")
