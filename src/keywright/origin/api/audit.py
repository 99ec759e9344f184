"""The audit log of an account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from keywright.origin.api.fields import GivenMoment, Moment, PathAccount, Shape, new_router, problems
from keywright.origin.http import MAX_OFFSET, CurrentWork
from keywright.origin.service import audit as rules
from keywright.origin.service.actor import Page
from keywright.origin.service.audit import AuditEntry, AuditFilter

router = new_router("Audit log")


class ActingAsShape(Shape):
    sub: str
    email: str | None


class ActorShape(Shape):
    """Who did it."""

    sub: str = Field(examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])
    email: str | None
    type: str = Field(examples=["service"])
    connection: str | None = Field(examples=["management-key"])
    acting_as: ActingAsShape | None
    metadata: dict[str, Any] | None


class ResourceShape(Shape):
    """What it was done to."""

    type: str = Field(examples=["consumer"])
    id: str = Field(examples=["csmr_brw0leTAVw478VFKD4F6OqVI"])
    metadata: dict[str, Any] | None


class ContextShape(Shape):
    """From where. The places are null: Keywright looks nobody up."""

    ip_address: str | None
    user_agent: str | None
    country: str | None
    region: str | None
    city: str | None
    postal_code: str | None
    metro_code: str | None
    as_org: str | None


class RouteShape(Shape):
    source: str | None = Field(examples=["api"])
    url: str | None
    method: str | None = Field(examples=["POST"])


class AuditLogShape(Shape):
    """One change, or one attempt that was refused."""

    action: str = Field(examples=["consumer.create"])
    metadata: dict[str, Any] | None
    actor: ActorShape
    resources: list[ResourceShape] | None
    context: ContextShape
    route: RouteShape
    timestamp: Moment
    request_id: str
    success: bool
    error: str | None = Field(description="Why it was refused.")


class PaginationShape(Shape):
    limit: int
    offset: int
    total: int
    has_more: bool


class AuditLogsShape(Shape):
    data: list[AuditLogShape]
    pagination: PaginationShape


@router.get(
    "/accounts/{accountName}/audit-logs",
    name="audit-log.list",
    summary="Query the audit log",
    responses=problems(403, 404),
)
async def list_audit_logs(
    work: CurrentWork,
    account: PathAccount,
    limit: Annotated[int, Query(ge=1, le=100, description="The most entries to return.")] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="How many entries to pass over.")] = 0,
    action: Annotated[str | None, Query(description="Only this action.", examples=["consumer.create"])] = None,
    start: Annotated[GivenMoment | None, Query(alias="startDate", description="Not before this moment.")] = None,
    end: Annotated[GivenMoment | None, Query(alias="endDate", description="Not after this moment.")] = None,
    actor: Annotated[str | None, Query(description="Only by this e-mail address or subject.")] = None,
    success: Annotated[bool | None, Query(description="Only what succeeded, or only what was refused.")] = None,
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
