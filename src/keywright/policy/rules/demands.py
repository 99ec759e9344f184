"""Owns what a policy, or one of its routes, demands beyond a good key: scopes, as an application writes them."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING

from keywright.domain.powers import NO_DEMAND
from keywright.domain.scopes import find_fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keywright.policy.rules.sources import Source

ROUTES_KEPT = 1000


def checked(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, which are said by the application's own code. Raises TypeError, ValueError."""
    if isinstance(scopes, str):
        raise TypeError("scopes is a list of scopes, not one")
    return _checked(tuple(scopes))


@lru_cache(maxsize=ROUTES_KEPT)
def _checked(scopes: tuple[str, ...]) -> tuple[str, ...]:
    # Twice where a router and its route both demand it.
    once = tuple(dict.fromkeys(scopes))
    fault = find_fault(once)
    if fault is not None:
        raise ValueError(f"scopes {fault}: {', '.join(map(repr, once))}")
    return once


def require_taker(source: Source) -> None:
    """Raise TypeError for a source that can be asked whether a key is good, and nothing beyond that."""
    for name in ("validate", "validate_async"):
        ask = getattr(source, name, None)
        if ask is None:
            continue
        try:
            inspect.signature(ask).bind("", "", NO_DEMAND)
        except TypeError:
            raise TypeError(
                f"{type(source).__name__}.{name} has no third parameter, a keywright.domain.powers.Demand: "
                "such a source can't judge scopes or addresses, nor be told of routes"
            ) from None
