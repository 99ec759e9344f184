"""Accounts and their projects."""

from __future__ import annotations

from pydantic import Field

from keywright.domain.models import Account, Environment, Project
from keywright.origin.accounts import rules
from keywright.origin.accounts.access import may_write_account, require_root
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import (
    AccountName,
    ListOf,
    Moment,
    ProjectName,
    Shape,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathProject, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Accounts")
ACCOUNT = "/accounts/{accountName}"


class AccountShape(Shape):
    """A tenant: owns buckets, projects and management keys."""

    id: str = Field(examples=["acct_4n8AMjERFSoh5xIQir7o99Z6"])
    name: str = Field(examples=["my-account"])
    created_on: Moment
    updated_on: Moment


class AccountCreate(Body):
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


class ProjectCreate(Body):
    """A new project."""

    name: ProjectName = Field(
        description="Unique in the account; its buckets are named after it.", examples=["my-project"]
    )


@router.get("/accounts", name="account.list", summary="List accounts", responses=problems(403))
async def list_accounts(work: CurrentUnitOfWork, page: AskedPage) -> ListOf[AccountShape]:
    """Every account of the deployment. For the root management key only."""
    accounts, total = await rules.list_all(work, page)
    return ListOf.of([_show_account(account) for account in accounts], page, total)


@router.post("/accounts", name="account.create", summary="Create an account", responses=problems(403, 409, 413, 415))
@admits(require_root)
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
@admits(may_write_account)
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
