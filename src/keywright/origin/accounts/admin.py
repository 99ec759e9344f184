"""Accounts of the deployment, for whoever holds the root key."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.names import ACCOUNT_NAME
from keywright.origin.accounts import rules as accounts
from keywright.origin.accounts.access import require_root
from keywright.origin.web.admin_layout import account_url, load_own_layout, require
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

PAGE_SIZE = 50


async def account_list(request: PageRequest) -> Response:
    part = offset_page(request, PAGE_SIZE)
    found, total = await accounts.list_all(request.work, part)
    layout = await load_own_layout(request)
    return await request.render(
        "admin/accounts/list.html", layout=layout, found=found, pages=offset_links(request, part, total)
    )


async def new_account(request: PageRequest) -> Response:
    require(request.work.actor.grantee.is_root, "Only the root key can do this.")
    return await request.render("admin/accounts/new.html", layout=await load_own_layout(request), form=request.form)


async def create(request: PageRequest) -> Response:
    name = request.form.name("name", ACCOUNT_NAME, "1 to 128 characters: a-z, 0-9, _ and -")
    request.form.check()
    account = await accounts.create(request.work, name=name)
    url = account_url(request, account.name, "management-keys")
    href = account_url(request, account.name, "management-keys", "new")
    return request.redirect(url, f"Account {account.name} created.", href=href, link="Create its first management key")


ROUTES = (
    GetRoute("/accounts", account_list),
    GetRoute("/new-account", new_account),
    PostRoute(
        "/new-account", create, form=new_account, action="account.create", conflict="name", admission=require_root
    ),
)
