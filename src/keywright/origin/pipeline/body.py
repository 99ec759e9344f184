"""Owns the body of a request: how large it may be, and which JSON can be kept."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any

from fastapi import Request
from pydantic_core import PydanticUndefined

from keywright.domain.problems import BadRequest, UnsupportedMediaType
from keywright.http.body import read_bounded
from keywright.origin.pipeline.respond import invalid

MAX_BODY_BYTES = 4 * 1024 * 1024
LARGE_BODY_BYTES = 64 * 1024
MAX_DEPTH = 64
NO_BODY: Any = PydanticUndefined
"""What a shape is compared with where nothing was sent, which is not the same as `null`."""

NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+_-]+\+)?json", re.IGNORECASE | re.ASCII)


async def read_body(request: Request) -> Any:
    """The body, read no further than is allowed, as JSON; NO_BODY where none was sent."""
    too_large = f"The body is larger than {MAX_BODY_BYTES} bytes."
    declared = request.headers.get("content-length", "0")
    body = await read_bounded(request.stream(), MAX_BODY_BYTES, too_large, declared)
    if not body:
        return NO_BODY
    content_type = request.headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise UnsupportedMediaType("Send JSON, with the header Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if len(body) <= LARGE_BODY_BYTES:
        return parse_json(body)
    # The event loop, which answers validations too, does not wait for it.
    return await asyncio.to_thread(parse_json, body)


def parse_json(body: bytes) -> Any:
    """JSON (RFC 8259) that can be kept: UTF-8, finite numbers, no NUL, no lone surrogates. Raises BadRequest.

    Of several members with one name the last counts, as in JavaScript.
    """
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
