"""Accounts, their projects and management keys, and who the caller is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from keywright.domain import keyformat
from keywright.domain.keyformat import Secret
from keywright.domain.models import Account, Environment, ManagementKey, Project
from keywright.domain.permissions import Access, Permissions
from keywright.origin.accounts import rules
from keywright.origin.buckets.api import SharedAccess
from keywright.origin.management_keys import rules as management
from keywright.origin.openapi.fields import (
    AccountName,
    BucketNameOrAll,
    Description,
    GivenMoment,
    ListOf,
    Moment,
    ProjectName,
    Shape,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathKey, PathProject, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Accounts")
ACCOUNT = "/accounts/{accountName}"
MANAGEMENT_KEYS = ACCOUNT + "/management-keys"
MAX_NAMED_BUCKETS = 100


class AccountShape(Shape):
    """A tenant: owns buckets, projects and management keys."""

    id: str = Field(examples=["acct_4n8AMjERFSoh5xIQir7o99Z6"])
    name: str = Field(examples=["my-account"])
    created_on: Moment
    updated_on: Moment


class AccountCreate(Shape):
    """A new account."""

    name: AccountName = Field(description="Unique in the deployment.", examples=["partner-account"])


class ProjectShape(Shape):
    """A name with a bucket for each environment."""

    id: str = Field(examples=["proj_4n8AMjERFSoh5xIQir7o99Z6"])
    name: str = Field(examples=["my-project"])
    created_on: Moment
    updated_on: Moment
    environments: dict[Environment, str] = Field(
        description="The name of the bucket of each environment.",
        examples=[
            {
                "production": "my-project-production",
                "preview": "my-project-preview",
                "working-copy": "my-project-working-copy",
            }
        ],
    )


class ProjectCreate(Shape):
    """A new project."""

    name: ProjectName = Field(
        description="Unique in the account; its buckets are named after it.", examples=["my-project"]
    )


class AccountAccess(StrEnum):
    """What a management key may do in its account and in all buckets of it."""

    NONE = "none"
    READ = "read"
    WRITE = "write"


class PermissionsShape(Shape):
    """What a management key may do: in the account with all of its buckets, and in single buckets by name."""

    account: Annotated[AccountAccess, Field(strict=False)] = AccountAccess.NONE
    buckets: dict[BucketNameOrAll, Annotated[SharedAccess, Field(strict=False)]] = Field(
        default_factory=dict,
        max_length=MAX_NAMED_BUCKETS,
        description="What it may do in single buckets, by name; `*` is every bucket.",
        examples=[{"my-bucket": "write"}, {"*": "validate"}],
        json_schema_extra={"additionalProperties": False},
    )
    feed: bool = Field(default=False, description="May follow the change feed, as an edge does.")


class ManagementKeyShape(Shape):
    """A credential for this API."""

    id: str = Field(examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])
    description: str | None
    created_on: Moment
    updated_on: Moment
    expires_on: Moment | None = Field(description="When it ends; null is never.")
    permissions: PermissionsShape
    key: str = Field(
        description="Whole when it was just made, else its last characters.",
        examples=["kwmk_d67b7e241bb948758f415b79aa8ec822_2efb7009"],
    )


class ManagementKeyCreate(Shape):
    """A new management key."""

    description: Description | None = Field(default=None, examples=["Deploys from CI"])
    expires_on: GivenMoment | None = Field(
        default=None, description="When it ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )
    permissions: PermissionsShape

    def to_permissions(self) -> Permissions:
        asked = self.permissions
        buckets = {name: Access.of(access) for name, access in asked.buckets.items()}
        return Permissions(Access.of(asked.account), buckets, asked.feed)


class WhoAmIShape(Shape):
    """Who the caller is."""

    account: str = Field(examples=["my-account"])
    sub: str = Field(description="The id of the management key.", examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])


@router.get("/who-am-i", name="who-am-i", summary="Who am I", responses=problems())
async def who_am_i(work: CurrentUnitOfWork) -> WhoAmIShape:
    """The management key that is calling, and its account."""
    account = await rules.get_own(work)
    return WhoAmIShape(account=account.name, sub=work.actor.sub)


@router.get("/accounts", name="account.list", summary="List accounts", responses=problems(403))
async def list_accounts(work: CurrentUnitOfWork, page: AskedPage) -> ListOf[AccountShape]:
    """Every account of the deployment. For the root management key only."""
    accounts, total = await rules.list_all(work, page)
    return ListOf.of([_show_account(account) for account in accounts], page, total)


@router.post("/accounts", name="account.create", summary="Create an account", responses=problems(403, 409, 413, 415))
async def create_account(work: CurrentUnitOfWork, body: AccountCreate) -> AccountShape:
    """A new tenant. For the root management key only."""
    return _show_account(await rules.create(work, name=body.name))


@router.get(ACCOUNT + "/projects", name="project.list", summary="List projects", responses=problems(403, 404))
async def list_projects(work: CurrentUnitOfWork, account: PathAccount, page: AskedPage) -> ListOf[ProjectShape]:
    """The projects of an account, newest first."""
    projects, total = await rules.list_projects(work, account, page)
    return ListOf.of([_show_project(project) for project in projects], page, total)


@router.post(
    ACCOUNT + "/projects",
    name="project.create",
    summary="Create a project",
    responses=problems(403, 404, 409, 413, 415),
)
async def create_project(work: CurrentUnitOfWork, account: PathAccount, body: ProjectCreate) -> ProjectShape:
    """A new project with three buckets: production, preview and working-copy."""
    return _show_project(await rules.create_project(work, account, name=body.name))


@router.get(
    ACCOUNT + "/projects/{projectName}", name="project.read", summary="Get a project", responses=problems(403, 404)
)
async def get_project(work: CurrentUnitOfWork, account: PathAccount, project: PathProject) -> ProjectShape:
    """A project and the names of its buckets."""
    return _show_project(await rules.get_project(work, account, project))


@router.delete(
    ACCOUNT + "/projects/{projectName}",
    name="project.delete",
    summary="Delete a project",
    status_code=204,
    responses=problems(403, 404, 409),
)
async def delete_project(work: CurrentUnitOfWork, account: PathAccount, project: PathProject) -> None:
    """Deletes a project and its buckets, if no bucket has consumers; 409 otherwise."""
    await rules.delete_project(work, account, project)


@router.get(MANAGEMENT_KEYS, name="management-key.list", summary="List management keys", responses=problems(403, 404))
async def list_management_keys(
    work: CurrentUnitOfWork, account: PathAccount, page: AskedPage
) -> ListOf[ManagementKeyShape]:
    """The credentials of an account for this API, newest first, masked."""
    keys, total = await management.list_of(work, account, page)
    return ListOf.of([_show_key(key) for key in keys], page, total)


@router.post(
    MANAGEMENT_KEYS,
    name="management-key.create",
    summary="Create a management key",
    responses=problems(403, 404, 409, 413, 415),
)
async def create_management_key(
    work: CurrentUnitOfWork, account: PathAccount, body: ManagementKeyCreate
) -> ManagementKeyShape:
    """A new management key. It is shown here and never again."""
    made, secret = await management.create(
        work,
        account,
        description=body.description,
        expires_at=body.expires_on,
        permissions=body.to_permissions(),
    )
    return _show_key(made, secret)


@router.get(
    MANAGEMENT_KEYS + "/{keyId:key_id}",
    name="management-key.read",
    summary="Get a management key",
    responses=problems(403, 404),
)
async def get_management_key(work: CurrentUnitOfWork, account: PathAccount, key_id: PathKey) -> ManagementKeyShape:
    """A management key, masked, and what it may do."""
    return _show_key(await management.get(work, account, key_id))


@router.delete(
    MANAGEMENT_KEYS + "/{keyId:key_id}",
    name="management-key.delete",
    summary="Revoke a management key",
    status_code=204,
    responses=problems(403, 404),
)
async def delete_management_key(work: CurrentUnitOfWork, account: PathAccount, key_id: PathKey) -> None:
    """Ends a management key: from the next request on it is refused."""
    await management.delete(work, account, key_id)


def _show_account(account: Account) -> AccountShape:
    return AccountShape(id=account.id, name=account.name, created_on=account.created_at, updated_on=account.updated_at)


def _show_project(project: Project) -> ProjectShape:
    return ProjectShape(
        id=project.id,
        name=project.name,
        created_on=project.created_at,
        updated_on=project.updated_at,
        environments=dict(project.environments),
    )


def _show_key(made: ManagementKey, secret: Secret | None = None) -> ManagementKeyShape:
    key = made.key
    return ManagementKeyShape(
        id=key.id,
        description=key.description,
        created_on=key.created_at,
        updated_on=key.updated_at,
        expires_on=key.expires_at,
        permissions=PermissionsShape.model_validate(made.grantee.permissions.to_json()),
        key=secret.reveal() if secret else keyformat.mask(key.hint),
    )
