"""Consumers of a bucket: found among many, made, changed, deleted; and those who manage them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Response

from keywright.domain import keyformat, text
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.invite_mail import Invites
from keywright.origin.consumers.rules import ConsumerDraft, ConsumerSearch, ConsumerView, Include, ManagerDraft, Place
from keywright.origin.keys.rules import ConsumerPath, KeyDraft
from keywright.origin.pipeline.unit_of_work import CONSUMER_NAME
from keywright.origin.web.admin_layout import (
    MAY_NOT_WRITE,
    BucketLayout,
    bucket_url,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
    show_secret,
)
from keywright.origin.web.forms import Form, tags_text
from keywright.origin.web.paging import PageLinks, with_query
from keywright.origin.web.rendering import pretty
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

BUCKET = "/accounts/{accountName}/buckets/{bucketName}"
CONSUMER = BUCKET + "/consumers/{consumerName}"
PAGE_SIZE = 50
MOST_MANAGERS = 50
"""That one form may name: each is sent a mail."""
INVITES_PER_SECOND = 1
INVITES_AT_ONCE = 200
NAME_WORDS = "1 to 128 of a-z, 0-9, _ and -"
WAYS = {"name": "Name", "tag": "Tag", "manager": "Manager", "key": "Key"}


def register(router: PageRouter) -> None:
    invites = Invites(per_second=INVITES_PER_SECOND, at_once=INVITES_AT_ONCE)
    _register_list(router)
    _register_new(router, invites)
    _register_one(router)
    _register_managers(router, invites)


def _register_list(router: PageRouter) -> None:
    @router.get(BUCKET)
    async def consumer_list(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        by, words = request.query("by"), request.query("q")
        account, name = request.path_param("accountName"), request.path_param("bucketName")
        asked = Place(_number(request.query("older")), _number(request.query("newer")))
        found, total = await consumers.search(
            request.work, account, name, _search(by, words), place=asked, limit=PAGE_SIZE
        )
        shown, pages = _page(request, found, asked, total)
        form = Form.initial(by=by if by in WAYS else "name", q=words)
        return await render_bucket_page(
            request,
            "consumers/list.html",
            layout,
            found=shown,
            total=total,
            pages=pages,
            form=form,
            ways=WAYS,
            is_search=words,
        )

    @router.post(BUCKET + "/search", form=consumer_list, is_once=False)
    async def search(request: PageRequest) -> Response:
        # Sent, not asked for: a whole key that is pasted here must not come to stand in an address.
        by, words = request.form.choice("by", WAYS), request.form.get("q").strip()
        if not words:
            return request.redirect(bucket_url(request))
        if by == "key" or keyformat.parse(words) is not None or any(keyformat.find_in(words)):
            by, words = "key", words[-keyformat.HINT_LENGTH :]
        return request.redirect(bucket_url(request) + with_query(request, by=by, q=words[: text.EMAIL_LENGTH]))


def _register_new(router: PageRouter, invites: Invites) -> None:
    @router.get(BUCKET + "/consumers/new")
    async def new_consumer(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_write, MAY_NOT_WRITE)
        form = request.form.or_initial(with_key="on", expires="never")
        return await render_bucket_page(request, "consumers/form.html", layout, form=form, consumer=None)

    @router.post(BUCKET + "/consumers/new", form=new_consumer, action="consumer.create", conflict="name")
    async def create(request: PageRequest) -> Response:
        form = request.form
        draft = ConsumerDraft(
            form.name("name", CONSUMER_NAME, NAME_WORDS),
            form.description(),
            form.tags(),
            form.metadata(),
            [ManagerDraft(email) for email in form.emails("managers", most=MOST_MANAGERS)],
            [KeyDraft(expires_at=form.expiry(request.work.now))] if form.is_on("with_key") else [],
        )
        form.check()
        made = await consumers.create(
            request.work, request.path_param("accountName"), request.path_param("bucketName"), draft
        )
        name = made.consumer.name
        await invites.announce(
            request, (await get_bucket_layout(request)).bucket, [one.email for one in draft.managers]
        )
        url = bucket_url(request, "consumers", name)
        if not made.secrets:
            return request.redirect(url, f"Consumer {name} is there. It has no key yet.")
        (secret,) = made.secrets.values()
        return await show_secret(
            request,
            heading=f"Consumer {name} is there",
            label="Its first key",
            secret=secret,
            words="Hand it to whoever calls your API as this consumer. It works from now on.",
            on=(url, "Go to the consumer"),
        )


def _register_one(router: PageRouter) -> None:
    @router.get(CONSUMER)
    async def consumer_page(request: PageRequest) -> Response:
        return await show(request)

    @router.get(CONSUMER + "/edit")
    async def edit(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_write, MAY_NOT_WRITE)
        consumer = (await consumers.get(request.work, path_of(request), Include())).consumer
        metadata = pretty(consumer.metadata) if consumer.metadata else ""
        form = request.form.or_initial(
            name=consumer.name, description=consumer.description, tags=tags_text(consumer.tags), metadata=metadata
        )
        return await render_bucket_page(request, "consumers/form.html", layout, form=form, consumer=consumer)

    @router.post(CONSUMER + "/edit", form=edit, action="consumer.update")
    async def update(request: PageRequest) -> Response:
        form = request.form
        description, tags, metadata = form.description(), form.tags(), form.metadata()
        form.check()
        await consumers.update(request.work, path_of(request), description=description, tags=tags, metadata=metadata)
        url = consumer_url(request)
        return request.redirect(url, "The consumer is saved.", href=f"{url}/edit", link="Edit again")

    @router.get(CONSUMER + "/delete")
    async def ask_delete(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_write, MAY_NOT_WRITE)
        view = await consumers.get(request.work, path_of(request), Include(keys=True))
        count = len(view.keys or ())
        keys = f"Its {count} keys are" if count != 1 else "Its key is"
        return await render_confirmation(
            request,
            heading=f"Delete consumer {view.consumer.name}",
            lines=[
                f"{keys} refused from the next request on, and its managers lose it."
                if count
                else "Its managers lose it. It has no keys.",
                "There is no way back.",
            ],
            button="Delete consumer",
            back=consumer_url(request),
            typed=view.consumer.name,
        )

    @router.post(CONSUMER + "/delete", form=ask_delete, action="consumer.delete")
    async def delete(request: PageRequest) -> Response:
        request.form.typed(request.path_param("consumerName"))
        await consumers.delete(request.work, path_of(request))
        request.waits_for_edges = True
        text = (
            f"Consumer {request.path_param('consumerName')} is deleted, and its keys are refused. There is no way back."
        )
        return request.redirect(bucket_url(request), text)


def _register_managers(router: PageRouter, invites: Invites) -> None:
    @router.post(CONSUMER + "/managers", form=show, action="manager.create", conflict="email")
    async def add(request: PageRequest) -> Response:
        email = request.form.line("email", most=text.EMAIL_LENGTH, is_required=True) or ""
        if email and not text.is_email(email):
            request.form.fail("email", "must be an e-mail address")
        request.form.check()
        await consumers.add_manager(request.work, path_of(request), ManagerDraft(email))
        await invites.announce(request, (await get_bucket_layout(request)).bucket, [email.lower()])
        url = consumer_url(request) + "#managers"
        return request.redirect(
            url, f"{email.lower()} is invited, and becomes a manager by signing in with that address."
        )

    @router.get(CONSUMER + "/managers/{managerId}/remove")
    async def ask_remove(request: PageRequest) -> Response:
        layout = await get_bucket_layout(request)
        require(layout.may_write, MAY_NOT_WRITE)
        manager = await consumers.get_manager(request.work, path_of(request), request.path_param("managerId"))
        return await render_confirmation(
            request,
            heading=f"Remove {manager.email}",
            lines=["They can no longer see or change this consumer's keys. The keys themselves go on working."],
            button="Remove manager" if manager.sub else "Withdraw invite",
            back=consumer_url(request),
        )

    @router.post(CONSUMER + "/managers/{managerId}/remove", form=ask_remove, action="manager.delete")
    async def remove(request: PageRequest) -> Response:
        manager = await consumers.delete_manager(request.work, path_of(request), request.path_param("managerId"))
        url = consumer_url(request) + "#managers"
        return request.redirect(url, f"{manager.email} manages this consumer no more. You can invite them again.")


async def show(request: PageRequest, **values: Any) -> Response:
    """The page of a consumer, with its keys masked."""
    layout: BucketLayout = await get_bucket_layout(request)
    view = await consumers.get(request.work, path_of(request), Include(keys=True, managers=True, invites=True))
    shown = {"shown_key": "", "shown_secret": "", **values}
    return await render_bucket_page(
        request, "consumers/detail.html", layout, view=view, consumer=view.consumer, **shown
    )


def path_of(request: PageRequest) -> ConsumerPath:
    return ConsumerPath(
        request.path_param("accountName"), request.path_param("bucketName"), request.path_param("consumerName")
    )


def consumer_url(request: PageRequest, *parts: str) -> str:
    return bucket_url(request, "consumers", request.path_param("consumerName"), *parts)


def _search(by: str, words: str) -> ConsumerSearch:
    if not words:
        return ConsumerSearch()
    if by == "tag":
        name, separator, value = (part.strip() for part in words.partition("="))
        return ConsumerSearch(tag=(name, value if separator else None))
    if by == "manager":
        return ConsumerSearch(manager=words.lower())
    if by == "key":
        return ConsumerSearch(hint=words[-keyformat.HINT_LENGTH :])
    return ConsumerSearch(name=words.lower())


def _page(
    request: PageRequest, found: Sequence[ConsumerView], asked: Place, total: int
) -> tuple[Sequence[ConsumerView], PageLinks]:
    """One page of what was found, which may hold one more than fits: on the side that the reader is moving to."""
    is_more = len(found) > PAGE_SIZE
    is_backwards = asked.newer_than is not None
    shown = (found[1:] if is_backwards else found[:-1]) if is_more else found
    has_newer = is_more if is_backwards else asked.older_than is not None
    has_older = True if is_backwards else is_more
    newer = older = ""
    if shown and has_newer:
        newer = with_query(request, newer=str(shown[0].consumer.number), older="")
    if shown and has_older:
        older = with_query(request, older=str(shown[-1].consumer.number), newer="")
    words = f"{total:,} consumer{'' if total == 1 else 's'}"
    return shown, PageLinks(words, newer, older)


def _number(asked: str) -> int | None:
    return int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 19 else None
