"""One bucket: its settings, whom it is shared with, and deleting it. Its owner keys are in owner_keys_admin.py."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import WhenStale
from keywright.domain.names import ACCOUNT_NAME
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.unset import UNSET
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.web.admin_layout import (
    BUCKET,
    MAY_NOT_OWN,
    account_url,
    bucket_path,
    bucket_url,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
)
from keywright.origin.web.forms import tags_text
from keywright.origin.web.rendering import moment
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

ACCESS = {
    "validate": "Validate keys",
    "read": "Read consumers and keys",
    "write": "Manage consumers and keys",
}


WHEN_STALE = {
    WhenStale.SERVE.value: "Keep answering",
    WhenStale.REFUSE.value: "Refuse with 503",
}


async def settings(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    bucket = layout.bucket
    seconds = bucket.max_staleness_seconds
    form = request.form.or_initial(
        description=bucket.description,
        tags=tags_text(bucket.tags),
        maxStalenessSeconds="" if seconds is None else str(seconds),
        whenStale=bucket.when_stale.value,
        default_scopes="\n".join(bucket.default_scopes),
        recordAddresses="on" if bucket.record_addresses else "",
        key_prefix=bucket.key_prefix,
    )
    return await render_bucket_page(request, "buckets/settings.html", layout, form=form, when_stale=WHEN_STALE)


async def update(request: PageRequest) -> Response:
    form = request.form
    description, tags, default_scopes = form.description(), form.tags(), form.scopes("default_scopes")
    key_prefix = form.key_prefix() if form.asks("key_prefix") else UNSET
    seconds = form.whole("maxStalenessSeconds", least=1, most=buckets.MAX_STALENESS_SECONDS)
    when_stale = WhenStale(form.choice("whenStale", WHEN_STALE))
    form.check()
    await buckets.update(
        request.work,
        *bucket_path(request),
        description=description,
        tags=tags,
        max_staleness_seconds=seconds,
        when_stale=when_stale,
        default_scopes=default_scopes,
        record_addresses=form.is_on("recordAddresses"),
        key_prefix=key_prefix,
    )
    return request.redirect(bucket_url(request, "settings"), "Settings saved.")


async def ask_delete(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_own, MAY_NOT_OWN)
    return await render_confirmation(
        request,
        heading=f"Delete bucket {layout.bucket.name}",
        lines=[
            "This also deletes all its consumers, their keys and the bucket's owner keys.",
            "All its keys stop working immediately. This can't be undone.",
        ],
        button="Delete bucket",
        back=bucket_url(request, "settings"),
        typed=layout.bucket.name,
    )


async def delete(request: PageRequest) -> Response:
    request.form.typed(request.path_param("bucketName"))
    await buckets.delete(request.work, *bucket_path(request))
    request.waits_for_edges = True
    text = f"Bucket {request.path_param('bucketName')} deleted."
    if request.work.actor.grantee.owned_bucket_id is not None:
        # Whoever came in with the bucket's own key has ended that key, and with it the session.
        return request.redirect(f"{request.base}/sign-in?ended=1")
    return request.redirect(account_url(request, request.path_param("accountName"), "buckets"), text)


async def sharing(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    grants, _ = await buckets.list_grants(request.work, *bucket_path(request), Page())
    form = request.form.or_initial(access="read")
    return await render_bucket_page(request, "buckets/sharing.html", layout, grants=grants, form=form, accesses=ACCESS)


async def share(request: PageRequest) -> Response:
    other = request.form.name("account", ACCOUNT_NAME, "the name of an account")
    access = Access.of(request.form.choice("access", ACCESS))
    request.form.check()
    account, name = bucket_path(request)
    made = await buckets.share(request.work, account, name, with_account=other, access=access)
    until = "" if made.expires_at is None else f" until {moment(made.expires_at)}, when your key expires"
    return request.redirect(bucket_url(request, "sharing"), f"Bucket shared with {other}{until}.")


async def ask_unshare(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_own, MAY_NOT_OWN)
    other = request.path_param("otherAccount")
    return await render_confirmation(
        request,
        heading=f"Stop sharing with {other}",
        lines=[f"Account {other} loses access to this bucket immediately. You can share it again later."],
        button="Stop sharing",
        back=bucket_url(request, "sharing"),
    )


async def unshare(request: PageRequest) -> Response:
    account, name = bucket_path(request)
    other = request.path_param("otherAccount")
    await buckets.unshare(request.work, account, name, with_account=other)
    request.waits_for_edges = True
    url = bucket_url(request, "sharing")
    return request.redirect(url, f"Bucket no longer shared with {other}.")


ROUTES = (
    GetRoute(BUCKET + "/settings", settings),
    PostRoute(BUCKET + "/settings", update, form=settings, action="bucket.update", admission=may_write_own_bucket),
    GetRoute(BUCKET + "/delete", ask_delete),
    PostRoute(BUCKET + "/delete", delete, form=ask_delete, action="bucket.delete", admission=may_write_own_bucket),
    GetRoute(BUCKET + "/sharing", sharing),
    PostRoute(BUCKET + "/sharing", share, form=sharing, action="grant.create", admission=may_write_own_bucket),
    GetRoute(BUCKET + "/sharing/{otherAccount}/end", ask_unshare),
    PostRoute(
        BUCKET + "/sharing/{otherAccount}/end",
        unshare,
        form=ask_unshare,
        action="grant.delete",
        admission=may_write_own_bucket,
    ),
)
