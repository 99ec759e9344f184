"""Owns which tag a request's path has, by which an application has its use told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.domain.powers import ROUTE_FORM, is_route

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TAGS = 8
"""So many are told apart in a bucket."""


class RouteTags:
    """False where there are none."""

    def __init__(self, routes: Mapping[str, str]) -> None:
        """`routes` has tags by paths: each is that of its path and all below. Raises ValueError."""
        for path, tag in routes.items():
            if not path.startswith("/"):
                raise ValueError(f"a path in routes begins with /: {path!r}")
            if not is_route(tag):
                raise ValueError(f"a tag in routes {ROUTE_FORM}: {tag!r}")
        if len(set(routes.values())) > MOST_TAGS:
            raise ValueError(f"routes may have {MOST_TAGS} different tags: no more are told apart in a bucket")
        # The longest first: it says most.
        below = {path.rstrip("/") + "/": tag for path, tag in routes.items()}
        self._below = sorted(below.items(), key=lambda item: (-len(item[0]), item[0]))

    def __bool__(self) -> bool:
        return bool(self._below)

    def find(self, path: str) -> str | None:
        asked = path + "/"
        return next((tag for below, tag in self._below if asked.startswith(below)), None)
