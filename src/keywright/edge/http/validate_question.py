"""Owns the bodies of the validation endpoints: a key, and at /v2 what else is asked of it.

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


class _V1(msgspec.Struct):
    key: str
    scopes: Any = UNSET
    ip: Any = UNSET
    cost: Any = UNSET
    peek: Any = UNSET


class _V2(msgspec.Struct, forbid_unknown_fields=True):
    """`peek` asks for a verdict that takes nothing, `cost` is what is taken of quotas, `route` tells use apart."""

    key: str
    scopes: list[str] = []
    ip: str | None = None
    cost: int | float | None = None
    peek: bool = False
    route: str | None = None


_decode_v1 = msgspec.json.Decoder(_V1).decode
_decode_v2 = msgspec.json.Decoder(_V2).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_v1(data: bytes) -> tuple[str, Demand]:
    """The secret. Raises BadRequest."""
    try:
        question = _decode_v1(data)
    except _NOT_JSON as error:
        raise _bad_body(error) from None
    if question.scopes is UNSET and question.ip is UNSET and question.cost is UNSET and question.peek is UNSET:
        return question.key, NO_DEMAND
    names = [name for name in ("scopes", "ip", "cost", "peek") if getattr(question, name) is not UNSET]
    message = "is asked at POST /v2/validate/{bucketName}: here it would not be looked at"
    raise _refuse("The question is not one of /v1.", *((f"body.{name}", message) for name in names))


def parse_v2(data: bytes) -> tuple[str, Demand]:
    """The secret, and what is asked of it. Raises BadRequest."""
    try:
        question = _decode_v2(data)
    except _NOT_JSON as error:
        raise _bad_body(error) from None
    route = question.route
    if not question.scopes and question.ip is None and question.cost is None and not question.peek and route is None:
        return question.key, NO_DEMAND
    scopes = _checked(tuple(question.scopes))
    address = None if question.ip is None else parse_address(question.ip)
    if question.ip is not None and address is None:
        raise _refuse(
            "The question can't be answered.", ("body.ip", "must be one IPv4 or IPv6 address, without a port")
        )
    if route is not None and not is_route(route):
        raise _refuse("The question can't be answered.", ("body.route", ROUTE_FORM))
    return question.key, Demand(scopes, address, _read_cost(question.cost), question.peek, route)


def _read_cost(said: float | None) -> int | None:
    # To JSON 5.0 is a whole number as 5 is.
    if said is None:
        return None
    if not 1 <= said <= MAX_COST or said != int(said):
        raise _refuse("The question can't be answered.", ("body.cost", _COST))
    return int(said)


# An application asks for few different ones, again and again. What is wrong is not kept.
@lru_cache(maxsize=QUESTIONS_KEPT)
def _checked(scopes: tuple[str, ...]) -> tuple[str, ...]:
    fault = find_fault(scopes)
    if fault is not None:
        raise _refuse("The question can't be answered.", ("body.scopes", fault))
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
    "unknown field": ("body", "has a member that is not known: there are key, scopes, ip, cost, peek and route"),
}


def _refuse(detail: str, *errors: tuple[str, str]) -> BadRequest:
    return BadRequest(detail, errors=[{"field": field, "message": message} for field, message in errors])
