"""Owns how a refusal is put into an HTTP answer, for the adapters that write one themselves."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from keywright.domain import problems

if TYPE_CHECKING:
    from keywright.domain.problems import Problem


def render(problem: Problem, path: str, request_id: str | None) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of the answer to a request for a path. `request_id` is what the client calls it."""
    known = problems.find_request_id(request_id) or secrets.token_hex(16)
    document = problem.to_document(instance=problems.instance_of(path), request_id=known)
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = [
        ("content-type", problems.CONTENT_TYPE),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("x-request-id", known),
        *problem.headers.items(),
    ]
    return headers, body
