"""Owns which paths a policy leaves alone: those that it was given, and those below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExemptPaths:
    """Paths as they are, and those that end with `/*` as all that is below."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Raises TypeError, ValueError."""
        if isinstance(paths, str):
            raise TypeError("exempt_paths is a list of paths, not one")
        paths = list(paths)
        for path in paths:
            if not path.startswith("/") or "*" in path.removesuffix("/*"):
                raise ValueError(f"an exempt path begins with / and may end with /*: {path!r}")
        self._whole = frozenset(path for path in paths if not path.endswith("/*"))
        self._prefixes = tuple(path[:-1] for path in paths if path.endswith("/*"))

    def __bool__(self) -> bool:
        return bool(self._whole or self._prefixes)

    def __contains__(self, path: str) -> bool:
        if path in self._whole:
            return True
        return bool(self._prefixes) and path.startswith(self._prefixes) and _is_plain(path)


def _is_plain(path: str) -> bool:
    """Whether the path means the same to whoever tidies paths up: `/public/../private` is not below `/public/`."""
    if "\\" in path or "%" in path:
        return False
    return not any(part in ("", ".", "..") for part in path[1:].removesuffix("/").split("/"))
