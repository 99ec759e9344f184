"""Owner keys of a bucket: credentials that may do anything in it and nothing else."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.paging import Page
from keywright.domain.unset import updated
from keywright.origin.buckets import owner_keys_rules
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.web.admin_layout import (
    BUCKET,
    MAY_NOT_OWN,
    bucket_path,
    bucket_url,
    describe_key,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
    show_secret,
)
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute
from keywright.origin.web.switch import Switch


async def owner_key_list(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    keys, _ = await owner_keys_rules.list_of(request.work, *bucket_path(request), Page())
    return await render_bucket_page(request, "buckets/owner_keys.html", layout, keys=keys)


async def new_key(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_own, MAY_NOT_OWN)
    return await render_bucket_page(
        request, "buckets/owner_key_new.html", layout, form=request.form.or_initial(expires="never")
    )


async def create(request: PageRequest) -> Response:
    form = request.form
    description, expires_at, allowed_ips = (
        form.description(),
        form.expiry(request.work.now),
        updated(form.allowed_ips(), None),
    )
    form.check()
    made = await owner_keys_rules.create(
        request.work, *bucket_path(request), description=description, expires_at=expires_at, allowed_ips=allowed_ips
    )
    return await show_secret(
        request,
        heading="Owner key created",
        label="Owner key",
        secret=made.secret,
        words="It has full access to this bucket and nothing else. Copy it now: it won't be shown again.",
        on=(_list_url(request), "Back to owner keys"),
    )


async def _turn(request: PageRequest, is_enabled: bool) -> None:
    account, name = bucket_path(request)
    await owner_keys_rules.update(request.work, account, name, request.path_param("keyId"), enabled=is_enabled)


async def back(request: PageRequest) -> Response:
    """For a reader who reloads the page that a form was answered with."""
    return request.redirect(_list_url(request))


async def ask_revoke(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_own, MAY_NOT_OWN)
    account, name = bucket_path(request)
    key = await owner_keys_rules.get(request.work, account, name, request.path_param("keyId"))
    lines = [
        f"{describe_key(key)}, which has full access to the bucket {layout.bucket.name}.",
        "It stops working immediately. This can't be undone.",
    ]
    if key.id == request.work.actor.sub:
        lines.append("You are signed in with this key: revoking it ends your session.")
    return await render_confirmation(
        request,
        heading=f"Revoke owner key ****{key.hint}",
        lines=lines,
        button="Revoke owner key",
        back=_list_url(request),
    )


async def revoke(request: PageRequest) -> Response:
    account, name = bucket_path(request)
    await owner_keys_rules.delete(request.work, account, name, request.path_param("keyId"))
    request.waits_for_edges = True
    text = "Owner key revoked."
    return request.redirect(_list_url(request), text)


def _list_url(request: PageRequest) -> str:
    return bucket_url(request, "owner-keys")


_SWITCH = Switch("Owner key", "It works again when you enable it.", _turn, _list_url)
ROUTES = (
    GetRoute(BUCKET + "/owner-keys", owner_key_list),
    GetRoute(BUCKET + "/owner-keys/new", new_key),
    PostRoute(
        BUCKET + "/owner-keys/new", create, form=new_key, action="owner-key.create", admission=may_write_own_bucket
    ),
    GetRoute(BUCKET + "/owner-keys/{keyId}/disable", back),
    GetRoute(BUCKET + "/owner-keys/{keyId}/enable", back),
    *_SWITCH.routes(BUCKET + "/owner-keys/{keyId}", "owner-key.update", may_write_own_bucket),
    GetRoute(BUCKET + "/owner-keys/{keyId}/revoke", ask_revoke),
    PostRoute(
        BUCKET + "/owner-keys/{keyId}/revoke",
        revoke,
        form=ask_revoke,
        action="owner-key.delete",
        admission=may_write_own_bucket,
    ),
)
