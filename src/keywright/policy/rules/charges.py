"""Owns what a policy, or one of its routes, takes of a key's quotas, and settling what is known only afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from keywright.domain.limits import MAX_COST
from keywright.domain.reservations import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHARGE", "NO_CHARGE", "Charge", "NotSettled", "Settlement", "charge_of", "charging", "checked_use"]

CHARGE = "keywright.charge"
"""Where the scope of ASGI has what was taken for a request; and the attribute of a view that says what it takes."""
_ATTRIBUTE = "keywright_charge"
_View = TypeVar("_View")


class NotSettled(Exception):
    """The reservation counts as used, all of it: nobody knows of it any more, or nobody could be asked."""


class Charge(NamedTuple):
    """`cost` None: each quota's own default. `reserves`: the cost is settled when it is known."""

    cost: int | None = None
    is_peek: bool = False
    reserves: bool = False

    @classmethod
    def of(cls, cost: int | None, reserve: int | None, *, peek: bool) -> Charge:
        """What an application's own code says. Raises TypeError, ValueError."""
        for name, units in (("cost", cost), ("reserve", reserve)):
            if units is not None and type(units) is not int:
                raise TypeError(f"{name} is a whole number of units")
            if units is not None and not 1 <= units <= MAX_COST:
                raise ValueError(f"{name} is 1 to {MAX_COST:,} units")
        if (cost is not None) + (reserve is not None) + peek > 1:
            raise ValueError("one of cost, reserve and peek, not several")
        if cost is None and reserve is None and not peek:
            return NO_CHARGE
        return cls(reserve if cost is None else cost, peek, reserve is not None)


NO_CHARGE = Charge()


def charging(charge: Charge) -> Callable[[_View], _View]:
    """A decorator that notes on a view what it takes."""

    def decorate(view: _View) -> _View:
        setattr(view, _ATTRIBUTE, charge)
        return view

    return decorate


def charge_of(view: object) -> Charge:
    """What a view says that it takes."""
    found = getattr(view, _ATTRIBUTE, NO_CHARGE)
    return found if isinstance(found, Charge) else NO_CHARGE


def checked_use(cost: int) -> int:
    """What was used, 0 for nothing. Raises TypeError, ValueError."""
    if type(cost) is not int:
        raise TypeError("cost is a whole number of units")
    if not 0 <= cost <= MAX_COST:
        raise ValueError(f"cost is 0 to {MAX_COST:,} units")
    return cost
