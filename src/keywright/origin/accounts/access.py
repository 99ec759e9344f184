"""Owns the question that every rule of an account begins with: may the actor know of it, and do this much in it."""

from __future__ import annotations

from collections.abc import Mapping

from keywright.domain.models import Account
from keywright.domain.names import ACCOUNT_NAME
from keywright.domain.permissions import Access
from keywright.domain.problems import Forbidden, NotFound
from keywright.domain.text import is_whole
from keywright.origin.accounts import store as account_rows
from keywright.origin.pipeline.unit_of_work import UnitOfWork


async def require_root(work: UnitOfWork, path: Mapping[str, str] | None = None) -> None:
    """Raises Forbidden unless the actor may do anything in every account."""
    if not work.actor.grantee.is_root:
        raise Forbidden("Only the root management key may do this.")


async def may_write_account(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the actor may change the account that an address names. Raises NotFound, Forbidden."""
    await get_account(work, path["accountName"], Access.WRITE)


async def get_account(work: UnitOfWork, name: str, need: Access) -> Account:
    """The account of that name, if the actor may do this much in it.

    Raises NotFound where the actor may not know of it, Forbidden where it may do less.
    """
    account = await get_visible_account(work, name)
    if work.actor.grantee.on_account(account.id) < need:
        raise Forbidden(f"{work.actor.holding} has no {need.label} access to the account.")
    return account


async def get_visible_account(work: UnitOfWork, name: str) -> Account:
    """The account that an address begins with, if the actor may know of it; its audit log is where the attempt stands.

    Raises NotFound.
    """
    account = await _find_account(work, name)
    grantee = work.actor.grantee
    if account is None or not (grantee.is_root or account.id == grantee.account_id):
        # 404, not 403: a 403 would tell that the account exists.
        holding = work.actor.holding[0].lower() + work.actor.holding[1:]
        raise NotFound(f"There is no such account, or {holding} may not see it.")
    work.audit_draft.account_id = account.id
    return account


async def get_named_account(work: UnitOfWork, name: str) -> Account:
    """An account that is only pointed at, as when a bucket is shared with it. Raises NotFound."""
    account = await _find_account(work, name)
    if account is None:
        raise NotFound("There is no such account.")
    return account


async def _find_account(work: UnitOfWork, name: str) -> Account | None:
    return await account_rows.find_account(work.tx, name) if is_whole(ACCOUNT_NAME, name) else None
