"""Owns how a gateway asks for more than a good key: parameters of the bucket's own segment.

    /v1/forward-auth/my-bucket;scope=orders:read,orders:write;cost=5
    /v1/forward-auth/my-bucket;peek=true
    /v1/forward-auth/my-bucket;route=orders

An edge that does not know them takes all of it for a bucket that does not exist, and so never says yes by mistake.
They stand in a place that the client of the API can't reach: query strings are not read here, nor any header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from keywright.domain.limits import MAX_COST
from keywright.domain.powers import NO_DEMAND, ROUTE_FORM, Demand, is_route
from keywright.domain.problems import BadRequest
from keywright.domain.scopes import find_fault

QUESTIONS_KEPT = 1000
_COST = re.compile(r"[1-9][0-9]{0,6}")
_new = tuple.__new__


class Question(NamedTuple):
    """Of which bucket the key must be, and what else is asked of it."""

    bucket: str
    demand: Demand = NO_DEMAND


def parse_question(text: str) -> Question:
    """What the segment asks. Raises BadRequest for a parameter that is unknown, twice there, or not well formed."""
    # As Question(text) does it, in half of the time: this is on the way of each request.
    return _parse(text) if ";" in text else _new(Question, (text, NO_DEMAND))


# Each route of a gateway has a text of its own: there are few. What is wrong is not kept.
@lru_cache(maxsize=QUESTIONS_KEPT)
def _parse(text: str) -> Question:
    bucket, *parameters = text.split(";")
    said: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name not in ("scope", "cost", "peek", "route"):
            raise _bad(name, "is not known: there are `scope`, `cost`, `peek` and `route`")
        if name in said:
            raise _bad(name, "is there twice: separate several scopes by commas")
        said[name] = value
    return Question(bucket, Demand(_scopes(said), None, _cost(said), _is_peek(said), _route(said)))


def _scopes(said: Mapping[str, str]) -> tuple[str, ...]:
    if "scope" not in said:
        return ()
    scopes = said["scope"].split(",")
    fault = find_fault(scopes)
    if fault is not None:
        raise _bad("scope", fault)
    return tuple(scopes)


def _cost(said: Mapping[str, str]) -> int | None:
    if "cost" not in said:
        return None
    # One spelling: an int() of its own would take signs, spaces and other scripts' digits.
    if _COST.fullmatch(said["cost"]) is None or int(said["cost"]) > MAX_COST:
        raise _bad("cost", f"must be a whole number from 1 to {MAX_COST}")
    return int(said["cost"])


def _is_peek(said: Mapping[str, str]) -> bool:
    if said.get("peek", "true") != "true":
        raise _bad("peek", "is `peek=true`, or not there")
    return "peek" in said


def _route(said: Mapping[str, str]) -> str | None:
    route = said.get("route")
    if route is not None and not is_route(route):
        raise _bad("route", ROUTE_FORM)
    return route


def _bad(name: str, message: str) -> BadRequest:
    return BadRequest(
        "The question has a parameter that can't be used.", errors=[{"field": f"path.{name[:40]}", "message": message}]
    )
