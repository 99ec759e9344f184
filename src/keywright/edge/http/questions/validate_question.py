"""Owns the bodies of the validation endpoints: a key, and at /v2 what else is asked of it; and of settling.

At /v1 what only /v2 has is refused: who demands a scope there would take any good key for one that has it. All else
that a body of /v1 holds is passed over, as it always was; a body of /v2 holds nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET

from keywright.domain.limits import MAX_COST
from keywright.domain.networks import parse_address
from keywright.domain.powers import NO_DEMAND, ROUTE_FORM, Demand, is_route
from keywright.domain.problems import BadRequest, Problem
from keywright.domain.scopes import find_fault

QUESTIONS_KEPT = 1000
_COST = f"must be a whole number from 1 to {MAX_COST}"
_USED = f"must be a whole number from 0 to {MAX_COST}"
_SETTLING = "must be a JSON object of `reservation` and `cost`"
_CANT = "The question can't be answered."


class _V1(msgspec.Struct):
    key: str
    scopes: Any = UNSET
    ip: Any = UNSET
    cost: Any = UNSET
    peek: Any = UNSET
    reserve: Any = UNSET


class _V2(msgspec.Struct, forbid_unknown_fields=True):
    """`peek` asks for a verdict that takes nothing, `cost` is what is taken of quotas, `route` tells use apart.

    `reserve` is taken of quotas, too, and settled when it is known what was used.
    """

    key: str
    scopes: list[str] = []
    ip: str | None = None
    cost: int | float | None = None
    peek: bool = False
    route: str | None = None
    reserve: int | float | None = None


class _Settling(msgspec.Struct, forbid_unknown_fields=True):
    reservation: str
    cost: int | float


_V2_ONLY = ("scopes", "ip", "cost", "peek", "reserve")
_decode_settling = msgspec.json.Decoder(_Settling).decode
_decode_v1 = msgspec.json.Decoder(_V1).decode
_decode_v2 = msgspec.json.Decoder(_V2).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_v1(data: bytes) -> tuple[str, Demand]:
    """The secret. Raises BadRequest."""
    try:
        question = _decode_v1(data)
    except _NOT_JSON as error:
        raise _bad_body(error) from None
    if (
        question.scopes is UNSET
        and question.ip is UNSET
        and question.cost is UNSET
        and question.peek is UNSET
        and question.reserve is UNSET
    ):
        return question.key, NO_DEMAND
    names = [name for name in _V2_ONLY if getattr(question, name) is not UNSET]
    message = "is asked at POST /v2/validate/{bucketName}: here it would not be looked at"
    raise _refuse("The question is not one of /v1.", *((f"body.{name}", message) for name in names))


def parse_v2(data: bytes) -> tuple[str, Demand]:
    """The secret, and what is asked of it. Raises BadRequest."""
    try:
        question = _decode_v2(data)
    except _NOT_JSON as error:
        raise _bad_body(error) from None
    scopes, ip, cost = question.scopes, question.ip, question.cost
    peek, route, reserve = question.peek, question.route, question.reserve
    if not scopes and ip is None and cost is None and not peek and route is None and reserve is None:
        return question.key, NO_DEMAND
    address = None if ip is None else parse_address(ip)
    if ip is not None and address is None:
        raise _refuse(_CANT, ("body.ip", "must be one IPv4 or IPv6 address, without a port"))
    if route is not None and not is_route(route):
        raise _refuse(_CANT, ("body.route", ROUTE_FORM))
    if reserve is not None and (cost is not None or peek):
        raise _refuse(_CANT, ("body.reserve", "is a cost that is settled later: without `cost`, and without `peek`"))
    units = _read_units(cost, "cost") if reserve is None else _read_units(reserve, "reserve")
    return question.key, Demand(_checked(tuple(scopes)), address, units, peek, route, reserve is not None)


def parse_settling(data: bytes) -> tuple[str, int]:
    """A reservation's token, and what was used of it. Raises BadRequest."""
    try:
        said = _decode_settling(data)
    except _NOT_JSON as error:
        if not isinstance(error, msgspec.ValidationError):
            raise _refuse("The body is not JSON.", ("body", "must be valid JSON")) from None
        text = str(error)
        told = next((told for place, told in _WRONG_SETTLING.items() if place in text), ("body", _SETTLING))
        raise _refuse("The body must be an object with a reservation and its cost.", told) from None
    if not 0 <= said.cost <= MAX_COST or said.cost != int(said.cost):
        raise _refuse("The reservation can't be settled.", ("body.cost", _USED))
    return said.reservation, int(said.cost)


def refuse_token() -> BadRequest:
    """For a text that is no reservation of this deployment's."""
    return _refuse("The reservation can't be settled.", ("body.reservation", "was not made by this deployment's edges"))


def _read_units(said: float | None, name: str) -> int | None:
    # To JSON 5.0 is a whole number as 5 is.
    if said is None:
        return None
    if not 1 <= said <= MAX_COST or said != int(said):
        raise _refuse(_CANT, (f"body.{name}", _COST))
    return int(said)


# An application asks for few different ones, again and again. What is wrong is not kept.
@lru_cache(maxsize=QUESTIONS_KEPT)
def _checked(scopes: tuple[str, ...]) -> tuple[str, ...]:
    fault = find_fault(scopes)
    if fault is not None:
        raise _refuse(_CANT, ("body.scopes", fault))
    return scopes


def _bad_body(error: Exception) -> Problem:
    """The error's own text stays here: it could repeat a piece of the body, and so of a secret."""
    if not isinstance(error, msgspec.ValidationError):
        return _refuse("The body is not JSON.", ("body", "must be valid JSON"))
    text = str(error)
    told = _WRONG.get(next((place for place in _WRONG if place in text), ""), ("body", "must be a JSON object"))
    return _refuse("The body must be an object with the key to validate.", told)


_WRONG = {
    "`$.key`": ("body.key", "must be a string"),
    "missing required field": ("body.key", "is required"),
    "`$.scopes": ("body.scopes", "must be a list of strings"),
    "`$.ip`": ("body.ip", "must be a string"),
    "`$.cost`": ("body.cost", _COST),
    "`$.peek`": ("body.peek", "must be true or false"),
    "`$.route`": ("body.route", ROUTE_FORM),
    "`$.reserve`": ("body.reserve", _COST),
    "unknown field": (
        "body",
        "has a member that is not known: there are key, scopes, ip, cost, peek, route and reserve",
    ),
}
_WRONG_SETTLING = {
    "`$.reservation`": ("body.reservation", "must be a string"),
    "`$.cost`": ("body.cost", _USED),
    "field `reservation`": ("body.reservation", "is required"),
    "field `cost`": ("body.cost", "is required"),
}


def _refuse(detail: str, *errors: tuple[str, str]) -> BadRequest:
    return BadRequest(detail, errors=[{"field": field, "message": message} for field, message in errors])
