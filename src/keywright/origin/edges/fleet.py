"""Owns what people see of edges, and may do with them: the list of an account, and retiring one that is gone."""

from __future__ import annotations

from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import Forbidden, NotFound
from keywright.origin.accounts.access import get_account
from keywright.origin.edges import store as rows
from keywright.origin.edges.registry import Edges
from keywright.origin.edges.rules import Reported, list_visible
from keywright.origin.edges.scopes import DEPLOYMENT
from keywright.origin.pipeline.unit_of_work import UnitOfWork


async def list_of(work: UnitOfWork, edges: Edges, account_name: str, page: Page) -> tuple[list[Reported], int]:
    """A part of the edges of an account and of the deployment, by name; silent ones, too, until they are retired."""
    account = await get_account(work, account_name, Access.READ)
    visible = {DEPLOYMENT, account.id}
    kept = await rows.list_all(work.tx, account_ids=sorted(visible))
    entries, now = edges.entries()
    found = list_visible(entries, kept, visible, now, has_powers=await rows.has_powers(work.tx))
    return found[page.offset : page.offset + page.limit], len(found)


def may_retire(work: UnitOfWork, edges: Edges, edge: Reported) -> bool:
    """Whether the actor, who may write the account, may retire an edge that is listed in it."""
    is_own = edge.account_id == DEPLOYMENT and edge.report.instance == edges.own_instance
    return not is_own and (edge.account_id != DEPLOYMENT or work.actor.grantee.is_root)


async def get_retirable(work: UnitOfWork, edges: Edges, account_name: str, instance: str) -> Reported:
    """An edge of an account that can be retired, or of the deployment.

    Raises NotFound, Forbidden for an edge of the deployment where the actor has not the root key.
    """
    account = await get_account(work, account_name, Access.WRITE)
    kept = await rows.list_all(work.tx, account_ids=[account.id, DEPLOYMENT])
    entries, now = edges.entries()
    is_kept = {(one.account_id, one.report.instance) for one in kept}
    for account_id in (account.id, DEPLOYMENT):
        for one in list_visible(entries, kept, {account_id}, now):
            if one.report.instance == instance and (account_id, instance) in is_kept:
                if account_id == DEPLOYMENT and not work.actor.grantee.is_root:
                    raise Forbidden("An edge of the deployment is retired with the root key.")
                return one
    raise NotFound("There is no such edge, or it is the one beside this origin.")


async def retire(work: UnitOfWork, edges: Edges, account_name: str, instance: str) -> Reported:
    """Take an edge out: no write waits for it any more. One that still runs is back with its next report.

    Raises NotFound, Forbidden as `get_retirable` does.
    """
    found = await get_retirable(work, edges, account_name, instance)
    await rows.retire(work.tx, found.account_id, instance)
    work.audit_draft.concerns("edge", instance, name=found.report.name)
    edges.forget(instance)
    return found
