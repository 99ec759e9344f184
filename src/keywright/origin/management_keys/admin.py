"""Management keys of an account: who may do what through the Developer API and in this portal."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response

from keywright.domain.names import BUCKET_NAME
from keywright.domain.permissions import Access, Permissions
from keywright.domain.text import is_whole
from keywright.domain.unset import updated
from keywright.origin.management_keys import rules as management
from keywright.origin.web.admin_layout import (
    ACCOUNT,
    MAY_NOT_WRITE_ACCOUNT,
    account_url,
    describe_key,
    load_layout,
    render_confirmation,
    render_page,
    require,
    show_secret,
)
from keywright.origin.web.forms import Form
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute
from keywright.origin.web.switch import Switch

MANAGEMENT_KEYS = ACCOUNT + "/management-keys"
PAGE_SIZE = 50
ACCOUNT_ACCESS = {
    "none": "None, except the buckets below",
    "read": "Read everything",
    "write": "Manage everything",
}
MAX_NAMED_BUCKETS = 100


async def management_keys(request: PageRequest) -> Response:
    part = offset_page(request, PAGE_SIZE)
    found, total = await management.list_of(request.work, request.path_param("accountName"), part)
    return await render_page(
        request, "management_keys/list.html", found=found, pages=offset_links(request, part, total)
    )


async def new_key(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    form = request.form.or_initial(account="read", expires="90d")
    return await render_page(request, "management_keys/new.html", form=form, accesses=ACCOUNT_ACCESS)


async def create(request: PageRequest) -> Response:
    form = request.form
    description, expires_at, allowed_ips = (
        form.description(),
        form.expiry(request.work.now),
        updated(form.allowed_ips(), None),
    )
    permissions = Permissions(
        Access.of(form.choice("account", ACCOUNT_ACCESS)), _named_buckets(form), form.is_on("feed")
    )
    if permissions == Permissions():
        form.fail("buckets", "name a bucket, or choose an account access")
    form.check()
    made, secret = await management.create(
        request.work,
        request.path_param("accountName"),
        description=description,
        expires_at=expires_at,
        permissions=permissions,
        allowed_ips=allowed_ips,
    )
    return await show_secret(
        request,
        heading="Management key created",
        label=made.key.description or "Management key",
        secret=secret,
        words="Copy it now: it won't be shown again.",
        on=(
            _list_url(request),
            "Back to management keys",
        ),
    )


async def _turn(request: PageRequest, is_enabled: bool) -> None:
    account, key_id = request.path_param("accountName"), request.path_param("keyId")
    await management.update(request.work, account, key_id, enabled=is_enabled)


async def back(request: PageRequest) -> Response:
    """For a reader who reloads the page that a form was answered with."""
    return request.redirect(_list_url(request))


def _list_url(request: PageRequest) -> str:
    return account_url(request, request.path_param("accountName"), "management-keys")


async def ask_revoke(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    found = await management.get(request.work, request.path_param("accountName"), request.path_param("keyId"))
    lines = [f"{describe_key(found.key)}.", "It stops working immediately. This can't be undone."]
    if found.grantee.is_root:
        lines.insert(
            1, "This is a root key. Without one, accounts can't be managed: the last one can't be revoked here."
        )
    if found.key.id == request.work.actor.sub:
        lines.append("You are signed in with this key: revoking it ends your session.")
    return await render_confirmation(
        request,
        heading=f"Revoke management key ****{found.key.hint}",
        lines=lines,
        button="Revoke management key",
        back=_list_url(request),
    )


async def revoke(request: PageRequest) -> Response:
    await management.delete(request.work, request.path_param("accountName"), request.path_param("keyId"))
    request.waits_for_edges = True
    return request.redirect(_list_url(request), "Management key revoked.")


def _named_buckets(form: Form) -> Mapping[str, Access]:
    """`bucket=access` on each line; `*` is every bucket."""
    found: dict[str, Access] = {}
    for name, access in form.tags("buckets").items():
        if name != "*" and not is_whole(BUCKET_NAME, name):
            form.fail("buckets", f"“{name[:40]}” is not a bucket name")
        elif access not in {"validate", "read", "write"}:
            form.fail("buckets", f"the access to “{name[:40]}” must be validate, read or write")
        else:
            found[name] = Access.of(access)
    if len(found) > MAX_NAMED_BUCKETS:
        form.fail("buckets", f"must name at most {MAX_NAMED_BUCKETS} buckets")
    return found


_SWITCH = Switch("Management key", "It works again when you enable it.", _turn, _list_url)
ROUTES = (
    GetRoute(MANAGEMENT_KEYS, management_keys),
    GetRoute(MANAGEMENT_KEYS + "/new", new_key),
    PostRoute(MANAGEMENT_KEYS + "/new", create, form=new_key, action="management-key.create"),
    GetRoute(MANAGEMENT_KEYS + "/{keyId}/disable", back),
    GetRoute(MANAGEMENT_KEYS + "/{keyId}/enable", back),
    *_SWITCH.routes(MANAGEMENT_KEYS + "/{keyId}", "management-key.update"),
    GetRoute(MANAGEMENT_KEYS + "/{keyId}/revoke", ask_revoke),
    PostRoute(MANAGEMENT_KEYS + "/{keyId}/revoke", revoke, form=ask_revoke, action="management-key.delete"),
)
