"""Owns the body of a request: who may send one, how large it may be, and which JSON can be kept.

Nobody's body is read before it is known that they have the right to do what the address is for: an endpoint that takes
one says so with `admits`. What is then read is bounded in bytes, and in values while it is parsed.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic_core import PydanticUndefined

from keywright.domain.problems import BadRequest, UnsupportedMediaType
from keywright.domain.text import TAG_NAME, TAG_VALUE
from keywright.http.body import declared_size, read_bounded
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.respond import invalid
from keywright.origin.pipeline.unit_of_work import Limits, UnitOfWork

MAX_BODY_BYTES = 64 * 1024
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_LOGO_BODY_BYTES = 256 * 1024
MAX_VALUES = 20_000
"""As many objects, lists and members a body may have besides those of metadata; a thousand keys, as read, 15,000."""
MAX_DEPTH = 64
NO_BODY: Any = PydanticUndefined
"""What a shape is compared with where nothing was sent, which is not the same as `null`."""

LARGER_BODIES = {
    "key.create": MAX_LIST_BYTES,
    "key.create-bulk": MAX_LIST_BYTES,
    "key.update": MAX_LIST_BYTES,
    "consumer.create": MAX_LIST_BYTES,
    "consumer.update": MAX_LIST_BYTES,
    "portal.update": MAX_LOGO_BODY_BYTES,
}
"""What may be larger than MAX_BODY_BYTES, by action: lists of keys, metadata, and the logo.

An update of a consumer may send back what was read, with all its keys."""
TAGGED = frozenset({"bucket.create", "bucket.update"})
"""What may hold tags, and as many of them as the deployment allows."""
# Twelve bytes: a character beyond the basic plane as JSON can write it, \ud83d\ude00.
_TAG_BYTES = 12 * (TAG_NAME + TAG_VALUE) + 8

NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+_-]+\+)?json", re.IGNORECASE | re.ASCII)
# A string as a whole, even if it has no end, or what begins another value. Possessive: no byte is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)
_QUOTE = b'"'

Admission = Callable[[UnitOfWork, Mapping[str, str]], Awaitable[object]]
"""Raises a Problem unless the actor may do what an address is for; it is handed the parameters of the path."""
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def admits(admission: Admission) -> Callable[[_Endpoint], _Endpoint]:
    """Says of an endpoint who may send it a body. Its rules ask once more, in the transaction that acts."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.__dict__["admission"] = admission
        return endpoint

    return mark


def admission_of(endpoint: Callable[..., Any]) -> Admission:
    """Raises RuntimeError where an endpoint does not say."""
    admission: Admission | None = endpoint.__dict__.get("admission")
    if admission is None:
        raise RuntimeError(f"{endpoint.__module__}.{endpoint.__name__} takes a body, and does not say from whom")
    return admission


def most_bytes(action: str | None, limits: Limits) -> int:
    """How large the body of a request for this action may be."""
    most = LARGER_BODIES.get(action or "", MAX_BODY_BYTES)
    return max(most, MAX_BODY_BYTES // 4 + limits.tags * _TAG_BYTES) if action in TAGGED else most


def most_values(limits: Limits) -> int:
    # A value of metadata has two bytes at least: itself, and the comma before it.
    return MAX_VALUES + limits.metadata_bytes // 2


async def read_body(request: Request, action: str, limits: Limits, meter: Meter) -> Any:
    """The body, read no further than is allowed, as JSON; NO_BODY where none was sent. A large one weighs more."""
    most = most_bytes(action, limits)
    body = await read_weighed(request, most, f"The body is larger than {most} bytes.", meter)
    if not body:
        return NO_BODY
    content_type = request.headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if len(body) <= MAX_BODY_BYTES:
        return parse_json(body, most_values(limits))
    # The event loop, which answers validations too, does not wait for it.
    return await asyncio.to_thread(parse_json, body, most_values(limits))


async def read_weighed(request: Request, most: int, too_large: str, meter: Meter | None) -> bytes:
    """The bytes of a body. They count before they are there, else many large ones could come at once."""
    declared = declared_size(request.headers.get("content-length", ""))
    expected = most if declared is None else declared
    if meter is None or expected > most:
        return await read_bounded(request.stream(), most, too_large, request.headers.get("content-length", "0"))
    meter.charge_body(expected)
    body = await read_bounded(request.stream(), most, too_large)
    meter.correct_body(expected, len(body))
    return body


def parse_json(body: bytes, most: int) -> Any:
    """JSON (RFC 8259) that can be kept: UTF-8, finite numbers, no NUL, no lone surrogates, at most so many values.

    Raises BadRequest.

    Of several members with one name the last counts, as in JavaScript.
    """
    # Each value but the first has a comma or a bracket of its own.
    if len(body) > most:
        _check_count(body, most)
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _refused(["body"], "is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _refused(["body"], f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        message = "is not JSON that can be kept: a number is too large, or it is nested too deeply"
        raise _refused(["body"], message) from None
    _check(value, ["body"])
    return value


def _check_count(body: bytes, most: int) -> None:
    """Raises BadRequest for more values than that, having looked at no more of them. Strings are left out."""
    count = 0
    # Between two of them there may be two strings: a member's name, and its value.
    for number, token in enumerate(_TOKEN.finditer(body)):
        count += not token[0].startswith(_QUOTE)
        if count > most or number > 3 * most:
            raise _refused(["body"], f"holds more than {most} values")


def _check(value: Any, place: list[str]) -> None:
    """Raises BadRequest for what can't be kept. `place` is made into text only then: there may be many long names."""
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(place, "is a number too large to be kept")
    elif isinstance(value, dict):
        _check_depth(place)
        for name, child in value.items():
            place.append(name)
            _check_text(name, place)
            _check(child, place)
            place.pop()
    elif isinstance(value, list):
        _check_depth(place)
        for index, child in enumerate(value):
            place.append(str(index))
            _check(child, place)
            place.pop()


def _check_text(text: str, place: list[str]) -> None:
    if NOT_TEXT.search(text):
        raise _refused(place, "holds a NUL character or a lone surrogate")


def _check_depth(place: list[str]) -> None:
    if len(place) > MAX_DEPTH + 1:
        raise _refused(place, f"is nested more than {MAX_DEPTH} deep")


def _refused(place: list[str], message: str) -> BadRequest:
    return invalid([{"field": ".".join(part[:200] for part in place), "message": message}])


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
