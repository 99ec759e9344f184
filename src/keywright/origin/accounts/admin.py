"""Accounts of the deployment, for whoever holds the root key."""

from __future__ import annotations

from fastapi import Response

from keywright.origin.accounts import rules as accounts
from keywright.origin.pipeline.unit_of_work import ACCOUNT_NAME
from keywright.origin.web.admin_layout import account_url, load_own, require
from keywright.origin.web.paging import links, page_at
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

PAGE_SIZE = 50


def register(door: Door) -> None:
    @door.get("/accounts")
    async def account_list(visit: Visit) -> Response:
        part = page_at(visit, PAGE_SIZE)
        found, total = await accounts.list_all(visit.work, part)
        frame = await load_own(visit)
        return await visit.page("admin/accounts/list.html", frame=frame, found=found, pages=links(visit, part, total))

    @door.get("/new-account")
    async def new_account(visit: Visit) -> Response:
        require(visit.work.actor.grantee.is_root, "Only the root management key may do this.")
        return await visit.page("admin/accounts/new.html", frame=await load_own(visit), form=visit.form)

    @door.post("/new-account", form=new_account, action="account.create", conflict="name")
    async def create(visit: Visit) -> Response:
        name = visit.form.name("name", ACCOUNT_NAME, "1 to 128 of a-z, 0-9, _ and -")
        visit.form.check()
        account = await accounts.create(visit.work, name=name)
        url = account_url(visit, account.name, "management-keys")
        href = account_url(visit, account.name, "management-keys", "new")
        return visit.go(url, f"Account {account.name} is there.", href=href, link="Make its first management key")
