"""One bucket: what it is, whom it is shared with, its owner keys, and its end."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import WhenStale
from keywright.domain.permissions import Access
from keywright.origin.buckets import rules as buckets
from keywright.origin.management_keys import rules as management
from keywright.origin.pipeline.unit_of_work import ACCOUNT_NAME, Page
from keywright.origin.web.admin_layout import (
    MAY_NOT_OWN,
    account_url,
    bucket_url,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
    show_secret,
)
from keywright.origin.web.forms import tags_text
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

BUCKET = "/accounts/{accountName}/buckets/{bucketName}"
ACCESS = {
    "validate": "Validate keys",
    "read": "Read consumers and keys",
    "write": "Manage consumers and keys",
}


WHEN_STALE = {
    WhenStale.SERVE.value: "Answers from what it has",
    WhenStale.REFUSE.value: "Refuses to answer, with 503",
}


def register(router: PageRouter) -> None:
    _register_settings(router)
    _register_sharing(router)
    _register_owner_keys(router)


def _register_settings(router: PageRouter) -> None:
    @router.get(BUCKET + "/settings")
    async def settings(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        bucket = layout.bucket
        seconds = bucket.max_staleness_seconds
        form = request.form.or_initial(
            description=bucket.description,
            tags=tags_text(bucket.tags),
            maxStalenessSeconds="" if seconds is None else str(seconds),
            whenStale=bucket.when_stale.value,
        )
        return await render_bucket_page(request, "buckets/settings.html", layout, form=form, when_stale=WHEN_STALE)

    @router.post(BUCKET + "/settings", form=settings, action="bucket.update")
    async def update(request: PageRequest) -> Response:
        form = request.form
        description, tags = form.description(), form.tags()
        seconds = form.whole("maxStalenessSeconds", least=1, most=buckets.MAX_STALENESS_SECONDS)
        when_stale = WhenStale(form.choice("whenStale", WHEN_STALE))
        form.check()
        await buckets.update(
            request.work,
            request.path_param("accountName"),
            request.path_param("bucketName"),
            description=description,
            tags=tags,
            max_staleness_seconds=seconds,
            when_stale=when_stale,
        )
        return request.redirect(bucket_url(request, "settings"), "The bucket's settings are saved.")

    @router.get(BUCKET + "/delete")
    async def ask_delete(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_own, MAY_NOT_OWN)
        return await render_confirmation(
            request,
            heading=f"Delete bucket {layout.bucket.name}",
            lines=[
                "All its consumers, their keys and the bucket's owner keys are deleted with it.",
                "Every one of its keys is refused from the next request on. There is no way back.",
            ],
            button="Delete bucket",
            back=bucket_url(request, "settings"),
            typed=layout.bucket.name,
        )

    @router.post(BUCKET + "/delete", form=ask_delete, action="bucket.delete")
    async def delete(request: PageRequest) -> Response:
        request.form.typed(request.path_param("bucketName"))
        await buckets.delete(request.work, request.path_param("accountName"), request.path_param("bucketName"))
        request.waits_for_edges = True
        text = f"Bucket {request.path_param('bucketName')} is deleted with all that was in it. There is no way back."
        if request.work.actor.grantee.owned_bucket_id is not None:
            # Whoever came in with the bucket's own key has ended that key, and with it the session.
            return request.redirect(f"{request.base}/sign-in?ended=1")
        return request.redirect(account_url(request, request.path_param("accountName"), "buckets"), text)


def _register_sharing(router: PageRouter) -> None:
    @router.get(BUCKET + "/sharing")
    async def sharing(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        grants, _ = await buckets.list_grants(
            request.work, request.path_param("accountName"), request.path_param("bucketName"), Page()
        )
        form = request.form.or_initial(access="read")
        return await render_bucket_page(
            request, "buckets/sharing.html", layout, grants=grants, form=form, accesses=ACCESS
        )

    @router.post(BUCKET + "/sharing", form=sharing, action="grant.create")
    async def share(request: PageRequest) -> Response:
        other = request.form.name("account", ACCOUNT_NAME, "the name of an account")
        access = Access.of(request.form.choice("access", ACCESS))
        request.form.check()
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        await buckets.share(request.work, account, name, with_account=other, access=access)
        return request.redirect(bucket_url(request, "sharing"), f"The bucket is shared with {other}.")

    @router.get(BUCKET + "/sharing/{otherAccount}/end")
    async def ask_end(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_own, MAY_NOT_OWN)
        other = request.path_param("otherAccount")
        return await render_confirmation(
            request,
            heading=f"Stop sharing with {other}",
            lines=[f"From the next request on, account {other} finds this bucket no more. You can share it again."],
            button="Stop sharing",
            back=bucket_url(request, "sharing"),
        )

    @router.post(BUCKET + "/sharing/{otherAccount}/end", form=ask_end, action="grant.delete")
    async def end(request: PageRequest) -> Response:
        account, name, other = (
            request.path_param("accountName"),
            request.path_param("bucketName"),
            request.path_param("otherAccount"),
        )
        await buckets.unshare(request.work, account, name, with_account=other)
        request.waits_for_edges = True
        url = bucket_url(request, "sharing")
        return request.redirect(url, f"The bucket is no longer shared with {other}. You can share it again below.")


def _register_owner_keys(router: PageRouter) -> None:
    @router.get(BUCKET + "/owner-keys")
    async def owner_keys(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        keys, _ = await management.list_owner_keys(
            request.work, request.path_param("accountName"), request.path_param("bucketName"), Page()
        )
        return await render_bucket_page(request, "buckets/owner_keys.html", layout, keys=keys)

    @router.get(BUCKET + "/owner-keys/new")
    async def new_key(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_own, MAY_NOT_OWN)
        return await render_bucket_page(
            request, "buckets/owner_key_new.html", layout, form=request.form.or_initial(expires="never")
        )

    @router.post(BUCKET + "/owner-keys/new", form=new_key, action="owner-key.create")
    async def create_key(request: PageRequest) -> Response:
        description, expires_at = request.form.description(), request.form.expiry(request.work.now)
        request.form.check()
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        made = await management.create_owner_key(
            request.work, account, name, description=description, expires_at=expires_at
        )
        return await show_secret(
            request,
            heading="The owner key is there",
            label="The owner key",
            secret=made.secret,
            words="It may do anything in this bucket and nothing else. It is shown only now: keep it safe.",
            on=(bucket_url(request, "owner-keys"), "Back to the owner keys"),
        )

    @router.get(BUCKET + "/owner-keys/{keyId}/revoke")
    async def ask_revoke(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_own, MAY_NOT_OWN)
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        key = await management.get_owner_key(request.work, account, name, request.path_param("keyId"))
        lines = ["It is refused from the next request on. There is no way back: make a new one when one is needed."]
        if key.id == request.work.actor.sub:
            lines.append("This is the key that you have signed in with. Your session ends with it.")
        return await render_confirmation(
            request,
            heading=f"Revoke owner key ****{key.hint}",
            lines=lines,
            button="Revoke owner key",
            back=bucket_url(request, "owner-keys"),
        )

    @router.post(BUCKET + "/owner-keys/{keyId}/revoke", form=ask_revoke, action="owner-key.delete")
    async def revoke(request: PageRequest) -> Response:
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        await management.delete_owner_key(request.work, account, name, request.path_param("keyId"))
        request.waits_for_edges = True
        text = "The owner key is revoked: it is refused from now on. This can't be undone."
        return request.redirect(bucket_url(request, "owner-keys"), text)
