"""The audit log of an account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from keywright.domain.paging import Page
from keywright.origin.audit import rules
from keywright.origin.audit.rules import AuditEntry, AuditFilter
from keywright.origin.openapi.fields import AuditLimit, Flag, Moment, MomentInput, Offset, Shape
from keywright.origin.openapi.parameters import TEXT_LENGTH, PathAccount, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Audit log")


class ActingAsShape(Shape):
    """Whom the actor stood in for."""

    sub: str
    email: str | None


class ActorShape(Shape):
    """Who did it."""

    sub: str = Field(
        description="The id of a management key, or a user's subject.", examples=["key_m1m4ol223R0kGHGZY7tPQMQl"]
    )
    email: str | None
    type: str = Field(description="`service`, `user`, `system` or `anonymous`.", examples=["service"])
    connection: str | None = Field(description="How they came in.", examples=["management-key"])
    acting_as: ActingAsShape | None
    metadata: dict[str, Any] | None


class ResourceShape(Shape):
    """What it was done to."""

    type: str = Field(examples=["consumer"])
    id: str = Field(examples=["csmr_brw0leTAVw478VFKD4F6OqVI"])
    metadata: dict[str, Any] | None


class ContextShape(Shape):
    """From where. The places are null: Keywright looks nobody up."""

    ip_address: str | None = Field(examples=["192.0.2.1"])
    user_agent: str | None = Field(examples=["curl/8.14.1"])
    country: str | None
    region: str | None
    city: str | None
    postal_code: str | None
    metro_code: str | None
    as_org: str | None


class RouteShape(Shape):
    """The request."""

    source: str | None = Field(examples=["api"])
    url: str | None = Field(description="The path, as it was sent.", examples=["/v1/accounts/my-account/key-buckets"])
    method: str | None = Field(examples=["POST"])


class AuditLogShape(Shape):
    """One change, or one attempt that was refused."""

    action: str = Field(examples=["consumer.create"])
    metadata: dict[str, Any] | None
    actor: ActorShape
    resources: list[ResourceShape] | None = Field(
        examples=[[{"type": "consumer", "id": "csmr_brw0leTAVw478VFKD4F6OqVI", "metadata": {"name": "my-consumer"}}]]
    )
    context: ContextShape
    route: RouteShape
    timestamp: Moment
    request_id: str = Field(
        description="The `x-request-id` of the answer.", examples=["c0b6a2e0d6f44b6f9c0f5a1d2f3b4c5d"]
    )
    success: bool
    error: str | None = Field(description="Why it was refused.")


class PaginationShape(Shape):
    """Which part of the entries this is."""

    limit: int = Field(description="The most entries that this part may have.", examples=[20])
    offset: int = Field(description="How many entries were passed over.", examples=[0])
    total: int = Field(description="How many entries there are in all.", examples=[1])
    has_more: bool = Field(description="Whether entries follow.", examples=[False])


class AuditLogsShape(Shape):
    """A part of the audit log, newest first."""

    data: list[AuditLogShape]
    pagination: PaginationShape


@router.get(
    "/accounts/{accountName}/audit-logs",
    name="audit-log.list",
    summary="Query the audit log",
    responses=problems(403, 404),
)
async def list_audit_logs(
    work: CurrentUnitOfWork,
    account: PathAccount,
    limit: Annotated[AuditLimit, Query(description="The most entries to return.")] = 20,
    offset: Annotated[Offset, Query(description="How many entries to pass over.")] = 0,
    action: Annotated[
        str | None, Query(max_length=TEXT_LENGTH, description="Only this action.", examples=["consumer.create"])
    ] = None,
    start: Annotated[MomentInput | None, Query(alias="startDate", description="Not before this moment.")] = None,
    end: Annotated[MomentInput | None, Query(alias="endDate", description="Not after this moment.")] = None,
    actor: Annotated[
        str | None, Query(max_length=TEXT_LENGTH, description="Only by this e-mail address or subject.")
    ] = None,
    success: Annotated[Flag | None, Query(description="Only what succeeded, or only what was refused.")] = None,
) -> AuditLogsShape:
    """Changes and refused attempts, newest first."""
    wanted = AuditFilter(action, actor, start, end, success)
    entries, total = await rules.list_of(work, account, wanted, Page(limit, offset))
    has_more = offset + len(entries) < total
    pagination = PaginationShape(limit=limit, offset=offset, total=total, has_more=has_more)
    return AuditLogsShape(data=[_show(entry) for entry in entries], pagination=pagination)


def _show(entry: AuditEntry) -> AuditLogShape:
    return AuditLogShape.model_validate(
        {
            **entry.body,
            "action": entry.action,
            "metadata": None,
            "timestamp": entry.timestamp,
            "requestId": entry.request_id,
            "success": entry.success,
        }
    )
