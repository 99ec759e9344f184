"""Owns how a gateway asks for more than a good key: parameters of the bucket's own segment.

    /v1/forward-auth/my-bucket;scope=orders:read,orders:write

An edge that does not know them takes all of it for a bucket that does not exist, and so never says yes by mistake.
They stand in a place that the client of the API can't reach: query strings are not read here, nor any header.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from keywright.domain.powers import NO_DEMAND, Demand
from keywright.domain.problems import BadRequest
from keywright.domain.scopes import find_fault

QUESTIONS_KEPT = 1000
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
    scopes: list[str] | None = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name != "scope":
            raise _bad(name, "is not known: there is `scope`")
        if scopes is not None:
            raise _bad(name, "is there twice: separate several scopes by commas")
        scopes = value.split(",")
        fault = find_fault(scopes)
        if fault is not None:
            raise _bad(name, fault)
    return Question(bucket, Demand(tuple(scopes or ())))


def _bad(name: str, message: str) -> BadRequest:
    return BadRequest(
        "The question has a parameter that can't be used.", errors=[{"field": f"path.{name[:40]}", "message": message}]
    )
