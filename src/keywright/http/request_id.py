"""Owns the id of a request: the one rule by which a client's is taken, and what a new one is like.

It goes back in `X-Request-Id` with every answer, stands in problem documents, logs and the audit log, and so is bounded
and can't break a line.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = b"x-request-id"
MAX_LENGTH = 128
# Printable ASCII; a header's value neither begins nor ends with a space.
_TAKEN = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,%d}[\x21-\x7e])?" % (MAX_LENGTH - 2))


def request_id(given: bytes | None) -> bytes:
    """What the client calls its request, if that is printable ASCII of at most 128 characters; else a new id."""
    return given if given is not None and _TAKEN.fullmatch(given) is not None else new_request_id()


def request_id_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id of a request with these ASGI headers."""
    for name, value in headers:
        if name == HEADER:
            return request_id(value)
    return new_request_id()


def request_id_of_text(given: str | None) -> str:
    """The same for servers that have headers as text, as WSGI's."""
    return request_id(None if given is None else given.encode("utf-8", "replace")).decode("ascii")


def new_request_id() -> bytes:
    # Not `secrets`, which asks the kernel at each validation: an id has to be another one, not a secret.
    return b"%032x" % random.getrandbits(128)
