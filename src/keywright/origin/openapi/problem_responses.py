"""Owns how refusals are told of in the OpenAPI document: their shape, and which of them an operation knows."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from keywright.domain.problems import BY_STATUS, CONTENT_TYPE, TYPE_BASE

EVERY_OPERATION = frozenset({400, 401, 414, 429, 500, 503})

_REASONS = {
    400: ("The request is not valid; `errors` names the fields.", "The request is not valid."),
    401: ("No management key was sent, or it is not valid.", "The management key is not valid."),
    403: ("The management key may not do this.", "This management key has no write access to the bucket."),
    404: ("There is no such thing, or the management key may not know of it.", "The bucket has no such consumer."),
    408: ("The body did not come within 30 seconds.", "The body did not come within 30 seconds."),
    409: (
        "The name or the key is taken, the thing is in use, or what is sent does not go with what is kept.",
        "The bucket has a consumer named 'my-consumer' already.",
    ),
    413: (
        "The body is larger than 64 KiB; where keys come in lists 4 MiB are taken, with a logo 256 KiB.",
        "The body is larger than 65536 bytes.",
    ),
    414: ("The query is longer than 32 KiB.", "The query is 40000 bytes long; at most 32768 are read."),
    415: (
        "The body is not announced as JSON, or is compressed.",
        "Send JSON, with the header Content-Type: application/json.",
    ),
    429: (
        "Too many requests in this second.",
        "At most 100 management requests a second are answered for an account.",
    ),
    500: ("A fault of the service, logged under `requestId`.", None),
    503: (
        "The database can't be reached, or the change could not be applied here yet.",
        "The database can't be reached; nothing was changed.",
    ),
    507: (
        "The disk is full, or nearly: only what takes rights away is still done (deletions, rolls, ends of keys).",
        "The disk is full; nothing was changed.",
    ),
}


class FieldProblem(BaseModel):
    """A field that breaks a rule."""

    field: str = Field(
        description="Where it is: `body`, `query` or `path`, then its name.", examples=["body.expiresOn"]
    )
    message: str = Field(
        description="The rule.",
        examples=["must be an ISO 8601 time with its zone, such as 2027-01-31T12:00:00.000Z"],
    )


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="A URI for this kind of problem.", examples=[f"{TYPE_BASE}400"])
    title: str = Field(description="The reason phrase of the status.", examples=["Bad Request"])
    status: int = Field(description="The HTTP status.", examples=[400])
    detail: str = Field(default="", description="What went wrong this time.", examples=["The request is not valid."])
    instance: str = Field(default="", description="The path of the request.", examples=["/v1/accounts/my-account"])
    request_id: str = Field(
        default="",
        alias="requestId",
        description="Also in the `x-request-id` header and in the audit log.",
        examples=["c0b6a2e0d6f44b6f9c0f5a1d2f3b4c5d"],
    )
    errors: list[FieldProblem] = Field(default=[], description="The fields that break a rule, at most 50 of them.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of the refusals that an operation knows, besides those that all of them share."""
    # What reads a body, which may be too large, may also wait for it in vain, or find no room for what it says.
    of_bodies = {408, 507} if 413 in statuses else set()
    return {status: problem_response(status) for status in sorted(EVERY_OPERATION.union(statuses, of_bodies))}


def problem_response(status: int, reason: str | None = None, detail: str | None = None) -> dict[str, Any]:
    known_reason, known_detail = _REASONS[status]
    example: dict[str, Any] = {"type": f"{TYPE_BASE}{status}", "title": BY_STATUS[status].title, "status": status}
    shown_detail = detail or (None if reason else known_detail)
    if shown_detail:
        example["detail"] = shown_detail
    example["requestId"] = "c0b6a2e0d6f44b6f9c0f5a1d2f3b4c5d"
    if status == 400 and reason is None:
        example["errors"] = [{"field": "body.name", "message": "is required"}]
    response: dict[str, Any] = {
        "description": f"{BY_STATUS[status].title}. {reason or known_reason}",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}, "example": example}},
    }
    if status in {429, 503}:
        response["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"$ref": "#/components/headers/WWW-Authenticate"}}
    return response
