"""Management keys of an account: who may do what through the Developer API and in this portal."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response

from keywright.domain.permissions import Access, Permissions
from keywright.origin.management_keys import rules as management
from keywright.origin.pipeline.unit_of_work import BUCKET_NAME, is_name
from keywright.origin.web.admin_layout import NO_ACCOUNT_WRITE, account_url, confirm, load, page, require, show_made
from keywright.origin.web.forms import Form
from keywright.origin.web.paging import links, page_at
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

MANAGEMENT_KEYS = "/accounts/{accountName}/management-keys"
PAGE_SIZE = 50
ACCOUNT_ACCESS = {
    "none": "Nothing, but for the buckets named below",
    "read": "Read everything",
    "write": "Manage everything",
}
MAX_NAMED_BUCKETS = 100


def register(door: Door) -> None:
    @door.get(MANAGEMENT_KEYS)
    async def management_keys(visit: Visit) -> Response:
        part = page_at(visit, PAGE_SIZE)
        found, total = await management.list_of(visit.work, visit.at("accountName"), part)
        return await page(visit, "management_keys/list.html", found=found, pages=links(visit, part, total))

    @door.get(MANAGEMENT_KEYS + "/new")
    async def new_key(visit: Visit) -> Response:
        require((await load(visit)).may_write, NO_ACCOUNT_WRITE)
        form = visit.form.or_of(account="read", expires="90d")
        return await page(visit, "management_keys/new.html", form=form, accesses=ACCOUNT_ACCESS)

    @door.post(MANAGEMENT_KEYS + "/new", form=new_key, action="management-key.create")
    async def create(visit: Visit) -> Response:
        form = visit.form
        description, expires_at = form.description(), form.expiry(visit.work.now)
        permissions = Permissions(
            Access.of(form.choice("account", ACCOUNT_ACCESS)), _named_buckets(form), form.is_on("feed")
        )
        if permissions == Permissions():
            form.fail("buckets", "name a bucket, or choose what the key may do in the whole account")
        form.check()
        made, secret = await management.create(
            visit.work,
            visit.at("accountName"),
            description=description,
            expires_at=expires_at,
            permissions=permissions,
        )
        return await show_made(
            visit,
            heading="The management key is there",
            label=made.key.description or "Management key",
            secret=secret,
            words="It is shown only now: keep it safe.",
            on=(account_url(visit, visit.at("accountName"), "management-keys"), "Back to the management keys"),
        )

    @door.get(MANAGEMENT_KEYS + "/{keyId}/revoke")
    async def ask_revoke(visit: Visit) -> Response:
        require((await load(visit)).may_write, NO_ACCOUNT_WRITE)
        found = await management.get(visit.work, visit.at("accountName"), visit.at("keyId"))
        lines = ["It is refused from the next request on. There is no way back: make a new one when one is needed."]
        if found.grantee.is_root:
            lines.insert(0, "This is a root key. Without one, nobody can manage accounts.")
        if found.key.id == visit.work.actor.sub:
            lines.append("This is the key that you have signed in with. Your session ends with it.")
        return await confirm(
            visit,
            heading=f"Revoke management key ****{found.key.hint}",
            lines=lines,
            button="Revoke management key",
            back=account_url(visit, visit.at("accountName"), "management-keys"),
        )

    @door.post(MANAGEMENT_KEYS + "/{keyId}/revoke", form=ask_revoke, action="management-key.delete")
    async def revoke(visit: Visit) -> Response:
        await management.delete(visit.work, visit.at("accountName"), visit.at("keyId"))
        visit.is_awaited = True
        url = account_url(visit, visit.at("accountName"), "management-keys")
        return visit.go(url, "The management key is revoked: it is refused from now on. This can't be undone.")


def _named_buckets(form: Form) -> Mapping[str, Access]:
    """`bucket=access` on each line; `*` is every bucket."""
    found: dict[str, Access] = {}
    for name, access in form.tags("buckets").items():
        if name != "*" and not is_name(BUCKET_NAME, name):
            form.fail("buckets", f"“{name[:40]}” is no name of a bucket")
        elif access not in {"validate", "read", "write"}:
            form.fail("buckets", f"what “{name[:40]}” may be used for must be validate, read or write")
        else:
            found[name] = Access.of(access)
    if len(found) > MAX_NAMED_BUCKETS:
        form.fail("buckets", f"at most {MAX_NAMED_BUCKETS} buckets can be named")
    return found
