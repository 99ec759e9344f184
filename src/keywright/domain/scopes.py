"""Owns scopes: what a key is good for, how that is written, and when one scope covers another.

A scope is parts joined by colons, `orders:read`. `*` as the whole last part stands for everything below: `orders:*`
covers `orders:read` and `orders:items:read`, not `orders` itself; `*` alone covers all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

SCOPE = r"^(?:[A-Za-z0-9._-]+:)*(?:[A-Za-z0-9._-]+|\*)$"
MAX_SCOPES = 50
"""A key's or a consumer's, or demanded at once."""
MAX_LENGTH = 100
ANSWERS_KEPT = 32
_WHOLE = re.compile(SCOPE[1:-1])


class Scopes:
    """Scopes that were granted, ready to be asked about one that is demanded. Immutable."""

    __slots__ = ("_all", "_covered", "names")

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._all = "*" in self.names
        self._covered: dict[Collection[str], bool] = {}

    def covers(self, scope: str) -> bool:
        """Whether all of `scope` is granted; `scope` may end with a `*` of its own."""
        names = self.names
        if self._all or scope in names:
            return True
        end = scope.find(":") + 1
        while end:
            if scope[:end] + "*" in names:
                return True
            end = scope.find(":", end) + 1
        return False

    def cover_all(self, scopes: tuple[str, ...]) -> bool:
        """Whether all of these are granted. There are as many questions as routes: the answers are kept."""
        if self._all:
            return True
        covered = self._covered.get(scopes)
        if covered is None:
            if len(self._covered) >= ANSWERS_KEPT:
                self._covered.clear()
            covered = self._covered[scopes] = all(map(self.covers, scopes))
        return covered


def find_fault(scopes: Sequence[str]) -> str | None:
    """What is wrong with these scopes, as the rule that the first of them breaks; None where nothing is."""
    if len(scopes) > MAX_SCOPES:
        return f"must be at most {MAX_SCOPES} scopes"
    for scope in scopes:
        if len(scope) > MAX_LENGTH:
            return f"must be scopes of at most {MAX_LENGTH} characters each"
        if _WHOLE.fullmatch(scope) is None:
            return "must be scopes: parts of A-Z, a-z, 0-9, . _ and - joined by colons, `*` only as the whole last part"
    return "must not name a scope twice" if len(set(scopes)) < len(scopes) else None
