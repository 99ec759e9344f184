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
    NO_WRITE,
    BucketPlace,
    bucket_page,
    bucket_url,
    confirm,
    find_bucket,
    require,
    show_made,
)
from keywright.origin.web.forms import Form, tags_text
from keywright.origin.web.pages import pretty
from keywright.origin.web.paging import PageLinks, with_query
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

BUCKET = "/accounts/{accountName}/buckets/{bucketName}"
CONSUMER = BUCKET + "/consumers/{consumerName}"
PAGE_SIZE = 50
MOST_MANAGERS = 50
"""That one form may name: each is sent a mail."""
INVITES_PER_SECOND = 1
INVITES_AT_ONCE = 200
NAME_WORDS = "1 to 128 of a-z, 0-9, _ and -"
WAYS = {"name": "Name", "tag": "Tag", "manager": "Manager", "key": "Key"}


def register(door: Door) -> None:
    invites = Invites(per_second=INVITES_PER_SECOND, at_once=INVITES_AT_ONCE)
    _register_list(door)
    _register_new(door, invites)
    _register_one(door)
    _register_managers(door, invites)


def _register_list(door: Door) -> None:
    @door.get(BUCKET)
    async def consumer_list(visit: Visit) -> Response:
        place = await find_bucket(visit)
        by, words = visit.ask("by"), visit.ask("q")
        account, name = visit.at("accountName"), visit.at("bucketName")
        asked = Place(_number(visit.ask("older")), _number(visit.ask("newer")))
        found, total = await consumers.search(
            visit.work, account, name, _search(by, words), place=asked, limit=PAGE_SIZE
        )
        shown, pages = _page(visit, found, asked, total)
        form = Form.of(by=by if by in WAYS else "name", q=words)
        return await bucket_page(
            visit,
            "consumers/list.html",
            place,
            found=shown,
            total=total,
            pages=pages,
            form=form,
            ways=WAYS,
            is_search=words,
        )

    @door.post(BUCKET + "/search", form=consumer_list, is_once=False)
    async def search(visit: Visit) -> Response:
        # Sent, not asked for: a whole key that is pasted here must not come to stand in an address.
        by, words = visit.form.choice("by", WAYS), visit.form.get("q").strip()
        if not words:
            return visit.go(bucket_url(visit))
        if by == "key" or keyformat.parse(words) is not None or any(keyformat.find_in(words)):
            by, words = "key", words[-keyformat.HINT_LENGTH :]
        return visit.go(bucket_url(visit) + with_query(visit, by=by, q=words[: text.EMAIL_LENGTH]))


def _register_new(door: Door, invites: Invites) -> None:
    @door.get(BUCKET + "/consumers/new")
    async def new_consumer(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        form = visit.form.or_of(with_key="on", expires="never")
        return await bucket_page(visit, "consumers/form.html", place, form=form, consumer=None)

    @door.post(BUCKET + "/consumers/new", form=new_consumer, action="consumer.create", conflict="name")
    async def create(visit: Visit) -> Response:
        form = visit.form
        draft = ConsumerDraft(
            form.name("name", CONSUMER_NAME, NAME_WORDS),
            form.description(),
            form.tags(),
            form.metadata(),
            [ManagerDraft(email) for email in form.emails("managers", most=MOST_MANAGERS)],
            [KeyDraft(expires_at=form.expiry(visit.work.now))] if form.is_on("with_key") else [],
        )
        form.check()
        made = await consumers.create(visit.work, visit.at("accountName"), visit.at("bucketName"), draft)
        name = made.consumer.name
        await invites.announce(visit, (await find_bucket(visit)).bucket, [one.email for one in draft.managers])
        url = bucket_url(visit, "consumers", name)
        if not made.secrets:
            return visit.go(url, f"Consumer {name} is there. It has no key yet.")
        (secret,) = made.secrets.values()
        return await show_made(
            visit,
            heading=f"Consumer {name} is there",
            label="Its first key",
            secret=secret,
            words="Hand it to whoever calls your API as this consumer. It works from now on.",
            on=(url, "Go to the consumer"),
        )


def _register_one(door: Door) -> None:
    @door.get(CONSUMER)
    async def consumer_page(visit: Visit) -> Response:
        return await show(visit)

    @door.get(CONSUMER + "/edit")
    async def edit(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        consumer = (await consumers.get(visit.work, path_of(visit), Include())).consumer
        metadata = pretty(consumer.metadata) if consumer.metadata else ""
        form = visit.form.or_of(
            name=consumer.name, description=consumer.description, tags=tags_text(consumer.tags), metadata=metadata
        )
        return await bucket_page(visit, "consumers/form.html", place, form=form, consumer=consumer)

    @door.post(CONSUMER + "/edit", form=edit, action="consumer.update")
    async def update(visit: Visit) -> Response:
        form = visit.form
        description, tags, metadata = form.description(), form.tags(), form.metadata()
        form.check()
        await consumers.update(visit.work, path_of(visit), description=description, tags=tags, metadata=metadata)
        url = consumer_url(visit)
        return visit.go(url, "The consumer is saved.", href=f"{url}/edit", link="Edit again")

    @door.get(CONSUMER + "/delete")
    async def ask_delete(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        view = await consumers.get(visit.work, path_of(visit), Include(keys=True))
        count = len(view.keys or ())
        keys = f"Its {count} keys are" if count != 1 else "Its key is"
        return await confirm(
            visit,
            heading=f"Delete consumer {view.consumer.name}",
            lines=[
                f"{keys} refused from the next request on, and its managers lose it."
                if count
                else "Its managers lose it. It has no keys.",
                "There is no way back.",
            ],
            button="Delete consumer",
            back=consumer_url(visit),
            typed=view.consumer.name,
        )

    @door.post(CONSUMER + "/delete", form=ask_delete, action="consumer.delete")
    async def delete(visit: Visit) -> Response:
        visit.form.typed(visit.at("consumerName"))
        await consumers.delete(visit.work, path_of(visit))
        visit.is_awaited = True
        text = f"Consumer {visit.at('consumerName')} is deleted, and its keys are refused. There is no way back."
        return visit.go(bucket_url(visit), text)


def _register_managers(door: Door, invites: Invites) -> None:
    @door.post(CONSUMER + "/managers", form=show, action="manager.create", conflict="email")
    async def add(visit: Visit) -> Response:
        email = visit.form.line("email", most=text.EMAIL_LENGTH, is_required=True) or ""
        if email and not text.is_email(email):
            visit.form.fail("email", "must be an e-mail address")
        visit.form.check()
        await consumers.add_manager(visit.work, path_of(visit), ManagerDraft(email))
        await invites.announce(visit, (await find_bucket(visit)).bucket, [email.lower()])
        url = consumer_url(visit) + "#managers"
        return visit.go(url, f"{email.lower()} is invited, and becomes a manager by signing in with that address.")

    @door.get(CONSUMER + "/managers/{managerId}/remove")
    async def ask_remove(visit: Visit) -> Response:
        place = await find_bucket(visit)
        require(place.may_write, NO_WRITE)
        manager = await consumers.get_manager(visit.work, path_of(visit), visit.at("managerId"))
        return await confirm(
            visit,
            heading=f"Remove {manager.email}",
            lines=["They can no longer see or change this consumer's keys. The keys themselves go on working."],
            button="Remove manager" if manager.sub else "Withdraw invite",
            back=consumer_url(visit),
        )

    @door.post(CONSUMER + "/managers/{managerId}/remove", form=ask_remove, action="manager.delete")
    async def remove(visit: Visit) -> Response:
        manager = await consumers.delete_manager(visit.work, path_of(visit), visit.at("managerId"))
        url = consumer_url(visit) + "#managers"
        return visit.go(url, f"{manager.email} manages this consumer no more. You can invite them again.")


async def show(visit: Visit, **values: Any) -> Response:
    """The page of a consumer, with its keys masked."""
    place: BucketPlace = await find_bucket(visit)
    view = await consumers.get(visit.work, path_of(visit), Include(keys=True, managers=True, invites=True))
    shown = {"shown_key": "", "shown_secret": "", **values}
    return await bucket_page(visit, "consumers/detail.html", place, view=view, consumer=view.consumer, **shown)


def path_of(visit: Visit) -> ConsumerPath:
    return ConsumerPath(visit.at("accountName"), visit.at("bucketName"), visit.at("consumerName"))


def consumer_url(visit: Visit, *parts: str) -> str:
    return bucket_url(visit, "consumers", visit.at("consumerName"), *parts)


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
    visit: Visit, found: Sequence[ConsumerView], asked: Place, total: int
) -> tuple[Sequence[ConsumerView], PageLinks]:
    """One page of what was found, which may hold one more than fits: on the side that the reader is moving to."""
    is_more = len(found) > PAGE_SIZE
    is_backwards = asked.newer_than is not None
    shown = (found[1:] if is_backwards else found[:-1]) if is_more else found
    has_newer = is_more if is_backwards else asked.older_than is not None
    has_older = True if is_backwards else is_more
    newer = older = ""
    if shown and has_newer:
        newer = with_query(visit, newer=str(shown[0].consumer.number), older="")
    if shown and has_older:
        older = with_query(visit, older=str(shown[-1].consumer.number), newer="")
    words = f"{total:,} consumer{'' if total == 1 else 's'}"
    return shown, PageLinks(words, newer, older)


def _number(asked: str) -> int | None:
    return int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 19 else None
