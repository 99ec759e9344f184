"""Managers of a consumer, and invites."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field

from keywright.domain.models import Manager
from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.consumers import rules
from keywright.origin.consumers.parameters import CONSUMER, AskedConsumer
from keywright.origin.consumers.rules import ManagerDraft
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import Email, Flag, Issuer, ListOf, Moment, Shape, Subject
from keywright.origin.openapi.parameters import AskedPage, PathManager, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Managers")
MANAGERS = CONSUMER + "/managers"


class ManagerShape(Shape):
    """An end user who may manage the keys of a consumer; `sub` is null while the invite is open."""

    id: str = Field(examples=["eusr_MeefoYod5eQN33MEjC4PeRFH"])
    created_on: Moment
    email: str = Field(examples=["ada@example.com"])
    sub: str | None


class InviteShape(Shape):
    """An invite: it becomes a manager when a user with this verified e-mail address signs in."""

    id: str = Field(examples=["eusr_MeefoYod5eQN33MEjC4PeRFH"])
    created_on: Moment
    email: str = Field(examples=["ada@example.com"])


class ManagerCreate(Body):
    """A new manager, or an invite."""

    read_only = ("id", "createdOn")

    email: Email
    sub: Subject | None = Field(
        default=None,
        description="The user's subject at the identity provider; none invites.",
        examples=["auth0|5f7c8ec7c33c6c004bbafe82"],
    )
    issuer: Issuer | None = Field(
        default=None,
        description="The identity provider whose subject it is; the configured one, if left out.",
        examples=["https://id.example.com/realms/customers"],
    )


def show_manager(manager: Manager) -> ManagerShape:
    return ManagerShape(id=manager.id, created_on=manager.created_at, email=manager.email, sub=manager.sub)


def show_invite(invite: Manager) -> InviteShape:
    return InviteShape(id=invite.id, created_on=invite.created_at, email=invite.email)


@router.get(MANAGERS, name="manager.list", summary="List managers", responses=problems(403, 404))
async def list_managers(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    page: AskedPage,
    with_invites: Annotated[Flag, Query(alias="include-manager-invites", description="Show open invites too.")] = False,
) -> ListOf[ManagerShape]:
    """Those who manage a consumer, newest first."""
    managers, total = await rules.list_managers(work, path, with_invites=with_invites, page=page)
    return ListOf.of([show_manager(manager) for manager in managers], page, total)


@router.post(MANAGERS, name="manager.create", summary="Add a manager", responses=problems(403, 404, 409, 413, 415))
@admits(may_write_bucket)
async def create_manager(work: CurrentUnitOfWork, path: AskedConsumer, body: ManagerCreate) -> ManagerShape:
    """With `sub` a manager, without it an invite. Adding the `sub` of somebody who is invited accepts the invite."""
    return show_manager(await rules.add_manager(work, path, ManagerDraft(body.email, body.sub, body.issuer)))


@router.delete(
    MANAGERS + "/{managerId}",
    name="manager.delete",
    summary="Remove a manager",
    status_code=204,
    responses=problems(403, 404),
)
async def delete_manager(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    manager_id: PathManager,
) -> None:
    """Removes a manager, or takes back an invite."""
    await rules.delete_manager(work, path, manager_id)
