"""Edges: who follows, and how far each has got."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from keywright.domain.models import from_millis
from keywright.origin.edges import fleet
from keywright.origin.edges.rules import Reported
from keywright.origin.openapi.fields import ListOf, Moment, Shape
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathEdge, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.request import CurrentEdges, CurrentUnitOfWork
from keywright.protocol import feed_formats
from keywright.protocol.reports import EdgeState

router = new_router("Edges")


class EdgeShape(Shape):
    """A replica that judges keys: beside an origin, or a `keywright edge` elsewhere."""

    id: str = Field(description="Two edges of one name have two.", examples=["wq3v0bT1Hq2fJ7dYk9ZcXw"])
    name: str = Field(examples=["edge-oslo-1"])
    region: str | None = Field(examples=["eu-north"])
    version: str = Field(examples=["0.1.0"])
    connected: bool = Field(description="Whether it was heard of in the last 10 seconds.")
    seen_on: Moment = Field(description="When it was heard of last.")
    state: EdgeState = Field(
        description="`starting` without a snapshot, `synced`, or `behind`: as it said when it was heard of last."
    )
    since: Moment = Field(description="Since when it is in that state, by its own clock.")
    revision: int | None = Field(description="The newest change that it has applied.", examples=[42])
    refuses_after_seconds: float | None = Field(
        description="After how long without a report it answers for no key, as it promised; null is never."
    )
    leased: bool = Field(description="Whether that is the edge's own setting; one whose lease ran out is retired.")
    refusing: bool = Field(description="Whether it certainly answers for no key by now, since that time is over.")
    lag_seconds: float | None = Field(
        description="For how long it may have been out of step; null while that is not known.", examples=[0.4]
    )
    clock_offset_seconds: float | None = Field(
        description="How far its machine's clock is ahead of the origin's, by which it judges keys; negative is "
        "behind, null not known. From 2 s on one of them should be set right.",
        examples=[0.012],
    )
    feed_format: int = Field(
        description="The newest format of the feed that it reads; 2 also for one that does not say.", examples=[3]
    )
    refuses_powers: bool = Field(
        description="Whether it refuses keys with powers (switches, scopes, addresses), and there are some: it reads "
        "an older format than these need. Upgrade it."
    )
    format_unknown: bool = Field(
        description="Whether it follows no change, because the origin's format is one that it does not read."
    )


def _show(edge: Reported, now: datetime) -> EdgeShape:
    report = edge.report
    return EdgeShape(
        id=report.instance,
        name=report.name,
        region=report.region or None,
        version=report.version,
        connected=edge.is_connected,
        seen_on=now - timedelta(seconds=edge.age),
        state=report.state,
        since=from_millis(report.since),
        revision=report.revision,
        refuses_after_seconds=None if report.refuses_after is None else report.refuses_after / 1000,
        leased=report.is_leased,
        refusing=edge.is_refusing,
        lag_seconds=None if report.lag is None else round(report.lag / 1000 + edge.age, 3),
        clock_offset_seconds=None if report.clock_offset is None else report.clock_offset / 1000,
        feed_format=report.feed_format or feed_formats.OLDEST,
        refuses_powers=edge.misses_powers,
        format_unknown=report.is_format_unknown,
    )


@router.get("/accounts/{accountName}/edges", name="edge.list", summary="List edges", responses=problems(403, 404))
async def list_edges(
    work: CurrentUnitOfWork, edges: CurrentEdges, account: PathAccount, page: AskedPage
) -> ListOf[EdgeShape]:
    """The edges of an account and those that follow the whole deployment, by name. One that fell silent stays until it
    is retired.
    """
    found, total = await fleet.list_of(work, edges, account, page)
    return ListOf.of([_show(edge, work.now) for edge in found], page, total)


@router.delete(
    "/accounts/{accountName}/edges/{edgeId}",
    name="edge.retire",
    summary="Retire an edge",
    status_code=204,
    responses=problems(403, 404),
)
async def retire_edge(work: CurrentUnitOfWork, edges: CurrentEdges, account: PathAccount, edge_id: PathEdge) -> None:
    """Says that an edge is gone for good: no write waits for it any more. One that still runs is back, and waited for,
    with its next report; so stop it first. An edge of the whole deployment needs the root key.
    """
    await fleet.retire(work, edges, account, edge_id)
