"""Owns what stands around every page of the admin portal: the account, its projects, and where one may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Response

from keywright.core.models import Account, Project
from keywright.core.permissions import Access
from keywright.origin.portal.visit import Visit
from keywright.origin.service import accounts
from keywright.origin.service.actor import Page, get_account

FEW = Page(limit=100)
"""As many as a menu can show; the rest is found on its own page."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The account that a page is about, and what the reader may do in it as a whole."""

    account: Account
    accounts: Sequence[Account]
    projects: Sequence[Project]
    url: str
    is_root: bool
    may_read: bool
    may_write: bool


async def load(visit: Visit) -> Frame:
    """The frame of the account in the address. Raises NotFound."""
    work, grantee = visit.work, visit.work.actor.grantee
    account = await get_account(work, visit.at("accountName"), Access.NONE)
    access = grantee.on_account(account.id)
    all_accounts, _ = await accounts.list_all(work, FEW) if grantee.is_root else ([account], 1)
    projects: Sequence[Project] = ()
    if access >= Access.READ:
        projects, _ = await accounts.list_projects(work, account.name, FEW)
    return Frame(
        account,
        all_accounts,
        projects,
        account_url(visit, account.name),
        grantee.is_root,
        access >= Access.READ,
        access >= Access.WRITE,
    )


async def page(visit: Visit, template: str, /, **values: Any) -> Response:
    """A page inside the frame of the account in the address."""
    return await visit.page(f"admin/{template}", frame=await load(visit), **values)


def account_url(visit: Visit, account: str, *parts: str) -> str:
    return "/".join([f"{visit.base}/accounts", *(quote(part, safe="") for part in (account, *parts))])
