"""Owns the caller's mistakes: problem documents (RFC 9457) and one exception for each that we answer with.

    Problem
     +-- BadRequest 400            +-- MethodNotAllowed 405      +-- TooManyRequests 429
     +-- Unauthorized 401          +-- Conflict 409              +-- InternalServerError 500
     +-- Forbidden 403             +-- PayloadTooLarge 413       +-- ServiceUnavailable 503
     +-- NotFound 404              +-- UriTooLong 414            +-- InsufficientStorage 507
     |                             |    +-- QuotaExceeded
     +-- RequestTimeout 408        +-- UnsupportedMediaType 415
     +-- Gone 410

A Problem is raised where a rule is broken and rendered in one place per plane. A refused key is no Problem but a value
(domain/verdict.py); everything else that goes wrong is a bug and becomes a 500 without detail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "https://httpproblems.com/http-status/"
_LONGEST_INSTANCE = 1024


class Problem(Exception):
    """A refusal with its HTTP status. `detail` is for the caller and never holds a secret.

    `errors` lists the fields that break a rule, each as {"field": "body.name", "message": "..."}; `members` are those
    that a problem of its type has besides.
    """

    status: ClassVar[int]
    title: ClassVar[str]
    type: ClassVar[str | None] = None
    """None for the general one of its status."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def to_document(self, *, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """The problem document (RFC 9457 section 3) for the request at path `instance`."""
        type_uri = self.type or f"{TYPE_BASE}{self.status}"
        document: dict[str, Any] = {"type": type_uri, "title": self.title, "status": self.status, **self.members}
        if self.detail is not None:
            document["detail"] = self.detail
        if instance is not None:
            document["instance"] = instance
        if request_id is not None:
            document["requestId"] = request_id
        if self.errors:
            document["errors"] = self.errors
        return document


class BadRequest(Problem):
    status, title = 400, "Bad Request"


class Unauthorized(Problem):
    status, title = 401, "Unauthorized"


class Forbidden(Problem):
    status, title = 403, "Forbidden"


class NotFound(Problem):
    status, title = 404, "Not Found"


class MethodNotAllowed(Problem):
    status, title = 405, "Method Not Allowed"


class RequestTimeout(Problem):
    status, title = 408, "Request Timeout"


class Conflict(Problem):
    status, title = 409, "Conflict"


class Gone(Problem):
    status, title = 410, "Gone"


class PayloadTooLarge(Problem):
    status, title = 413, "Payload Too Large"


class UriTooLong(Problem):
    status, title = 414, "URI Too Long"


class UnsupportedMediaType(Problem):
    status, title = 415, "Unsupported Media Type"


class TooManyRequests(Problem):
    status, title = 429, "Too Many Requests"


class QuotaExceeded(TooManyRequests):
    """draft-ietf-httpapi-ratelimit-headers-11: one of the policies named in `violated-policies` is used up."""

    title = "Quota Exceeded"
    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class InternalServerError(Problem):
    status, title = 500, "Internal Server Error"


class ServiceUnavailable(Problem):
    status, title = 503, "Service Unavailable"


class InsufficientStorage(Problem):
    status, title = 507, "Insufficient Storage"


BY_STATUS: dict[int, type[Problem]] = {
    problem.status: problem
    for problem in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, RequestTimeout, Conflict, Gone,
        PayloadTooLarge, UriTooLong, UnsupportedMediaType, TooManyRequests, InternalServerError, ServiceUnavailable,
        InsufficientStorage,
    )
}  # fmt: skip


def instance_of(path: str) -> str:
    """A request's path as a problem document may show it: of bounded length, and text whatever was sent."""
    return path[:_LONGEST_INSTANCE].encode("utf-8", "replace").decode()
