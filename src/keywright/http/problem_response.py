"""Owns how a problem (domain/problems.py) becomes an HTTP answer: a document of RFC 9457 and its headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keywright.domain.problems import CONTENT_TYPE, instance_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.domain.problems import Problem


def to_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def render(
    problem: Problem, path: str, request_id: str, *, encode: Callable[[Any], bytes] = to_json
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers, in lower case, and body of the answer to a request for a path."""
    body = encode(problem.to_document(instance=instance_of(path), request_id=request_id))
    headers = [
        ("content-type", CONTENT_TYPE),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("x-request-id", request_id),
        *((name.lower(), value) for name, value in problem.headers.items()),
    ]
    return headers, body
