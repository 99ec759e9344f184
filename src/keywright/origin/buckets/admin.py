"""One bucket: what it is, whom it is shared with, its owner keys, and its end."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import WhenStale
from keywright.domain.permissions import Access
from keywright.origin.buckets import rules as buckets
from keywright.origin.management_keys import rules as management
from keywright.origin.pipeline.unit_of_work import ACCOUNT_NAME, Page
from keywright.origin.web.admin_layout import (
    NOT_OWN,
    account_url,
    bucket_page,
    bucket_url,
    confirm,
    find_bucket,
    require,
    show_made,
)
from keywright.origin.web.forms import tags_text
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

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


def register(door: Door) -> None:
    _register_settings(door)
    _register_sharing(door)
    _register_owner_keys(door)


def _register_settings(door: Door) -> None:
    @door.get(BUCKET + "/settings")
    async def settings(visit: Visit) -> Response:
        place = await find_bucket(visit)
        bucket = place.bucket
        seconds = bucket.max_staleness_seconds
        form = visit.form.or_of(
            description=bucket.description,
            tags=tags_text(bucket.tags),
            maxStalenessSeconds="" if seconds is None else str(seconds),
            whenStale=bucket.when_stale.value,
        )
        return await bucket_page(visit, "buckets/settings.html", place, form=form, when_stale=WHEN_STALE)

    @door.post(BUCKET + "/settings", form=settings, action="bucket.update")
    async def update(visit: Visit) -> Response:
        form = visit.form
        description, tags = form.description(), form.tags()
        seconds = form.whole("maxStalenessSeconds", least=1, most=buckets.MAX_STALENESS_SECONDS)
        when_stale = WhenStale(form.choice("whenStale", WHEN_STALE))
        form.check()
        await buckets.update(
            visit.work,
            visit.at("accountName"),
            visit.at("bucketName"),
            description=description,
            tags=tags,
            max_staleness_seconds=seconds,
            when_stale=when_stale,
        )
        return visit.go(bucket_url(visit, "settings"), "The bucket's settings are saved.")

    @door.get(BUCKET + "/delete")
    async def ask_delete(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_own, NOT_OWN)
        return await confirm(
            visit,
            heading=f"Delete bucket {place.bucket.name}",
            lines=[
                "All its consumers, their keys and the bucket's owner keys are deleted with it.",
                "Every one of its keys is refused from the next request on. There is no way back.",
            ],
            button="Delete bucket",
            back=bucket_url(visit, "settings"),
            typed=place.bucket.name,
        )

    @door.post(BUCKET + "/delete", form=ask_delete, action="bucket.delete")
    async def delete(visit: Visit) -> Response:
        visit.form.typed(visit.at("bucketName"))
        await buckets.delete(visit.work, visit.at("accountName"), visit.at("bucketName"))
        visit.is_awaited = True
        text = f"Bucket {visit.at('bucketName')} is deleted with all that was in it. There is no way back."
        if visit.work.actor.grantee.owned_bucket_id is not None:
            # Whoever came in with the bucket's own key has ended that key, and with it the session.
            return visit.go(f"{visit.base}/sign-in?ended=1")
        return visit.go(account_url(visit, visit.at("accountName"), "buckets"), text)


def _register_sharing(door: Door) -> None:
    @door.get(BUCKET + "/sharing")
    async def sharing(visit: Visit) -> Response:
        place = await find_bucket(visit)
        grants, _ = await buckets.list_grants(visit.work, visit.at("accountName"), visit.at("bucketName"), Page())
        form = visit.form.or_of(access="read")
        return await bucket_page(visit, "buckets/sharing.html", place, grants=grants, form=form, accesses=ACCESS)

    @door.post(BUCKET + "/sharing", form=sharing, action="grant.create")
    async def share(visit: Visit) -> Response:
        other = visit.form.name("account", ACCOUNT_NAME, "the name of an account")
        access = Access.of(visit.form.choice("access", ACCESS))
        visit.form.check()
        account, name = visit.at("accountName"), visit.at("bucketName")
        await buckets.share(visit.work, account, name, with_account=other, access=access)
        return visit.go(bucket_url(visit, "sharing"), f"The bucket is shared with {other}.")

    @door.get(BUCKET + "/sharing/{otherAccount}/end")
    async def ask_end(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_own, NOT_OWN)
        other = visit.at("otherAccount")
        return await confirm(
            visit,
            heading=f"Stop sharing with {other}",
            lines=[f"From the next request on, account {other} finds this bucket no more. You can share it again."],
            button="Stop sharing",
            back=bucket_url(visit, "sharing"),
        )

    @door.post(BUCKET + "/sharing/{otherAccount}/end", form=ask_end, action="grant.delete")
    async def end(visit: Visit) -> Response:
        account, name, other = visit.at("accountName"), visit.at("bucketName"), visit.at("otherAccount")
        await buckets.unshare(visit.work, account, name, with_account=other)
        visit.is_awaited = True
        url = bucket_url(visit, "sharing")
        return visit.go(url, f"The bucket is no longer shared with {other}. You can share it again below.")


def _register_owner_keys(door: Door) -> None:
    @door.get(BUCKET + "/owner-keys")
    async def owner_keys(visit: Visit) -> Response:
        place = await find_bucket(visit)
        keys, _ = await management.list_owner_keys(visit.work, visit.at("accountName"), visit.at("bucketName"), Page())
        return await bucket_page(visit, "buckets/owner_keys.html", place, keys=keys)

    @door.get(BUCKET + "/owner-keys/new")
    async def new_key(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_own, NOT_OWN)
        return await bucket_page(visit, "buckets/owner_key_new.html", place, form=visit.form.or_of(expires="never"))

    @door.post(BUCKET + "/owner-keys/new", form=new_key, action="owner-key.create")
    async def create_key(visit: Visit) -> Response:
        description, expires_at = visit.form.description(), visit.form.expiry(visit.work.now)
        visit.form.check()
        account, name = visit.at("accountName"), visit.at("bucketName")
        made = await management.create_owner_key(
            visit.work, account, name, description=description, expires_at=expires_at
        )
        return await show_made(
            visit,
            heading="The owner key is there",
            label="The owner key",
            secret=made.secret,
            words="It may do anything in this bucket and nothing else. It is shown only now: keep it safe.",
            on=(bucket_url(visit, "owner-keys"), "Back to the owner keys"),
        )

    @door.get(BUCKET + "/owner-keys/{keyId}/revoke")
    async def ask_revoke(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_own, NOT_OWN)
        account, name = visit.at("accountName"), visit.at("bucketName")
        key = await management.get_owner_key(visit.work, account, name, visit.at("keyId"))
        lines = ["It is refused from the next request on. There is no way back: make a new one when one is needed."]
        if key.id == visit.work.actor.sub:
            lines.append("This is the key that you have signed in with. Your session ends with it.")
        return await confirm(
            visit,
            heading=f"Revoke owner key ****{key.hint}",
            lines=lines,
            button="Revoke owner key",
            back=bucket_url(visit, "owner-keys"),
        )

    @door.post(BUCKET + "/owner-keys/{keyId}/revoke", form=ask_revoke, action="owner-key.delete")
    async def revoke(visit: Visit) -> Response:
        account, name = visit.at("accountName"), visit.at("bucketName")
        await management.delete_owner_key(visit.work, account, name, visit.at("keyId"))
        visit.is_awaited = True
        text = "The owner key is revoked: it is refused from now on. This can't be undone."
        return visit.go(bucket_url(visit, "owner-keys"), text)
