"""Rules of accounts and their projects."""

from __future__ import annotations

from keywright.domain.models import Account, Environment, IdKind, Project, new_id
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import Conflict, NotFound
from keywright.origin.accounts import store as rows
from keywright.origin.accounts.access import get_account, require_root
from keywright.origin.buckets import rules as bucket_rules
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db.engine import UniqueViolation
from keywright.origin.pipeline.unit_of_work import UnitOfWork


async def create(work: UnitOfWork, *, name: str) -> Account:
    """A new tenant; it has no buckets and no management keys yet. Root only."""
    await require_root(work)
    try:
        id = new_id(IdKind.ACCOUNT, work.dependencies.random_bytes)
        account = await rows.insert_account(work.tx, id=id, name=name, now=work.now)
    except UniqueViolation:
        raise Conflict(f"There is an account named {name!r} already.") from None
    # The first entry of the new account's own log.
    work.audit_draft.account_id = account.id
    work.audit_draft.concerns("account", account.id, name=name)
    return account


async def list_all(work: UnitOfWork, page: Page) -> tuple[list[Account], int]:
    """Every account of the deployment. Root only."""
    await require_root(work)
    return await rows.list_accounts(work.tx, limit=page.limit, offset=page.offset)


async def list_reachable(work: UnitOfWork, page: Page) -> tuple[list[Account], int]:
    """The accounts that the actor may go to: every one, its own one, or those in which it has a role."""
    grantee = work.actor.grantee
    ids = None if grantee.is_root else work.actor.account_ids or (grantee.account_id,)
    return await rows.list_accounts(work.tx, ids=ids, limit=page.limit, offset=page.offset)


async def get_own(work: UnitOfWork) -> Account:
    """The account that the actor belongs to."""
    account = await rows.find_account_by_id(work.tx, work.actor.grantee.account_id)
    if account is None:
        raise NotFound("The account no longer exists.")
    return account


async def create_project(work: UnitOfWork, account_name: str, *, name: str) -> Project:
    """A new project with a bucket for each environment, named `<project>-<environment>` where that is free."""
    account = await get_account(work, account_name, Access.WRITE)
    bucket_numbers: dict[Environment, int] = {}
    # The newest comes first in lists: made in reverse, production leads.
    for environment in reversed(Environment):
        bucket = await bucket_rules.make_for_project(work, account, name, environment)
        bucket_numbers[environment] = bucket.number
    id = new_id(IdKind.PROJECT, work.dependencies.random_bytes)
    try:
        await rows.insert_project(
            work.tx, id=id, account=account, name=name, bucket_numbers=bucket_numbers, now=work.now
        )
    except UniqueViolation:
        raise Conflict(f"The account has a project named {name!r} already.") from None
    work.audit_draft.concerns("project", id, name=name)
    return await _get_project(work, account, name)


async def list_projects(work: UnitOfWork, account_name: str, page: Page) -> tuple[list[Project], int]:
    account = await get_account(work, account_name, Access.READ)
    return await rows.list_projects(work.tx, account, limit=page.limit, offset=page.offset)


async def get_project(work: UnitOfWork, account_name: str, name: str) -> Project:
    return await _get_project(work, await get_account(work, account_name, Access.READ), name)


async def delete_project(work: UnitOfWork, account_name: str, name: str) -> None:
    """Deletes a project and its buckets. A bucket that still has consumers is in use: 409."""
    account = await get_account(work, account_name, Access.WRITE)
    project = await _get_project(work, account, name)
    work.audit_draft.concerns("project", project.id, name=name)
    found = [
        await bucket_rows.find(work.tx, bucket_name, is_for_update=True)
        for bucket_name in project.environments.values()
    ]
    buckets = [bucket for bucket in found if bucket is not None]
    used = [bucket.name for bucket in buckets if await bucket_rows.count_consumers(work.tx, bucket)]
    if used:
        raise Conflict(f"Delete the consumers or the buckets first: there are consumers in {', '.join(used)}.")
    await rows.delete_project(work.tx, project)
    for bucket in buckets:
        await bucket_rules.remove(work, bucket)


async def _get_project(work: UnitOfWork, account: Account, name: str) -> Project:
    project = await rows.find_project(work.tx, account, name) if name.isascii() and name.isprintable() else None
    if project is None:
        raise NotFound("The account has no such project.")
    return project
