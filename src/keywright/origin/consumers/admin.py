"""Consumers of a bucket: found among many, made, changed, deleted. Their managers are in managers_admin.py."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from keywright.domain import keyformat, text
from keywright.domain.models import Consumer
from keywright.domain.names import CONSUMER_NAME
from keywright.domain.paging import Page
from keywright.domain.unset import UNSET, updated
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.access import ConsumerPath
from keywright.origin.consumers.invite_mail import send_invites
from keywright.origin.consumers.rules import ConsumerDraft, ConsumerSearch, Include, ManagerDraft, Place
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.plans import rules as plans
from keywright.origin.quotas.fields import PERIODS, consumer_quota_fields, read_own_quotas
from keywright.origin.quotas.rules import list_for
from keywright.origin.usage import pictures
from keywright.origin.usage import rules as usage
from keywright.origin.web.admin_layout import (
    BUCKET,
    MAY_NOT_WRITE,
    BucketLayout,
    bucket_path,
    bucket_url,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
    show_secret,
)
from keywright.origin.web.forms import Form, restriction_fields, tags_text
from keywright.origin.web.limit_fields import (
    LIMIT_SCOPES,
    ROWS,
    consumer_limit_fields,
    plan_choices,
    read_own_rate_limits,
    read_plan,
)
from keywright.origin.web.paging import keyset_page, keyset_position, with_query
from keywright.origin.web.rendering import pretty
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute, RateLimit
from keywright.origin.web.switch import Switch

CONSUMER = BUCKET + "/consumers/{consumerName}"
PAGE_SIZE = 50
MOST_MANAGERS = 50
"""That one form may name: each is sent a mail."""
INVITES = RateLimit(per_second=1, burst=200, message="You have sent too many invites.")
NAME_WORDS = "1 to 128 characters: a-z, 0-9, _ and -"
WAYS = {"name": "Name", "tag": "Tag", "manager": "Manager", "key": "Key"}


async def consumer_list(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    by, words = request.query("by"), request.query("q")
    position = keyset_position(request)
    found, total = await consumers.search(
        request.work,
        *bucket_path(request),
        _search(by, words),
        place=Place(position.older_than, position.newer_than),
        limit=PAGE_SIZE,
    )
    shown, pages = keyset_page(
        request,
        found,
        position,
        size=PAGE_SIZE,
        number_of=lambda view: view.consumer.number,
        words=f"{total:,} consumer{'' if total == 1 else 's'}",
    )
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


async def search(request: PageRequest) -> Response:
    # Sent, not asked for: a whole key that is pasted here must not come to stand in an address.
    by, words = request.form.choice("by", WAYS), request.form.get("q").strip()
    if not words:
        return request.redirect(bucket_url(request))
    if by == "key" or keyformat.parse(words) is not None or any(keyformat.find_in(words)):
        by, words = "key", words[-keyformat.HINT_LENGTH :]
    return request.redirect(bucket_url(request) + with_query(request, by=by, q=words[: text.EMAIL_LENGTH]))


async def new_consumer(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    form = request.form.or_initial(
        with_key="on",
        expires="never",
        **restriction_fields(None, None),
        **consumer_limit_fields(None),
        **consumer_quota_fields(None),
    )
    return await _render_form(request, layout, form, None)


async def create(request: PageRequest) -> Response:
    form = request.form
    draft = ConsumerDraft(
        form.name("name", CONSUMER_NAME, NAME_WORDS),
        form.description(),
        form.tags(),
        form.metadata(),
        [ManagerDraft(email) for email in form.emails("managers", most=MOST_MANAGERS)],
        [KeyDraft(expires_at=form.expiry(request.work.now))] if form.is_on("with_key") else [],
        scopes=updated(form.own_scopes(), None),
        allowed_ips=updated(form.allowed_ips(), None),
        plan=updated(read_plan(form), None),
        rate_limits=updated(read_own_rate_limits(form), None),
        quotas=updated(read_own_quotas(form), None),
    )
    form.check()
    made = await consumers.create(request.work, *bucket_path(request), draft)
    name = made.consumer.name
    await send_invites(
        request, (await get_bucket_layout(request)).bucket, [one.email for one in draft.managers], INVITES
    )
    url = bucket_url(request, "consumers", name)
    if not made.secrets:
        return request.redirect(url, f"Consumer {name} created. It has no key yet.")
    (secret,) = made.secrets.values()
    return await show_secret(
        request,
        heading=f"Consumer {name} created",
        label="First key",
        secret=secret,
        words="Give it to whoever calls your API as this consumer. It works now.",
        on=(url, "Go to consumer"),
    )


async def consumer_page(request: PageRequest) -> Response:
    return await show(request)


async def edit(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    consumer = (await consumers.get(request.work, path_of(request), Include())).consumer
    metadata = pretty(consumer.metadata) if consumer.metadata else ""
    form = request.form.or_initial(
        name=consumer.name,
        description=consumer.description,
        tags=tags_text(consumer.tags),
        metadata=metadata,
        **restriction_fields(consumer.scopes, consumer.allowed_ips),
        **consumer_limit_fields(consumer),
        **consumer_quota_fields(consumer),
    )
    return await _render_form(request, layout, form, consumer)


async def _render_form(request: PageRequest, layout: BucketLayout, form: Form, consumer: Consumer | None) -> Response:
    found, _ = await plans.list_of(request.work, *bucket_path(request), Page(limit=plans.MAX_PLANS))
    choices = plan_choices([view.plan for view in found]) if found else []
    return await render_bucket_page(
        request,
        "consumers/form.html",
        layout,
        form=form,
        consumer=consumer,
        plan_choices=choices,
        rows=ROWS,
        limit_scopes=LIMIT_SCOPES,
        quota_periods=PERIODS,
    )


async def update(request: PageRequest) -> Response:
    form = request.form
    description, tags, metadata = form.description(), form.tags(), form.metadata()
    scopes, allowed_ips = form.own_scopes(), form.allowed_ips()
    plan, rate_limits, quotas = read_plan(form), read_own_rate_limits(form), read_own_quotas(form)
    form.check()
    await consumers.update(
        request.work,
        path_of(request),
        description=description,
        tags=tags,
        metadata=metadata,
        scopes=scopes,
        allowed_ips=allowed_ips,
        plan=plan,
        rate_limits=rate_limits,
        quotas=quotas,
    )
    url = consumer_url(request)
    return request.redirect(url, "Consumer saved.", href=f"{url}/edit", link="Edit again")


async def _turn(request: PageRequest, is_enabled: bool) -> None:
    await consumers.update(
        request.work, path_of(request), description=UNSET, tags=UNSET, metadata=UNSET, enabled=is_enabled
    )


async def back(request: PageRequest) -> Response:
    """For a reader who reloads the page that a form was answered with."""
    return request.redirect(consumer_url(request))


async def ask_delete(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    view = await consumers.get(request.work, path_of(request), Include(keys=True))
    count = len(view.keys or ())
    keys = f"Its {count} keys stop" if count != 1 else "Its key stops"
    return await render_confirmation(
        request,
        heading=f"Delete consumer {view.consumer.name}",
        lines=[
            f"{keys} working immediately, and its managers lose access."
            if count
            else "Its managers lose access. It has no keys.",
            "This can't be undone.",
        ],
        button="Delete consumer",
        back=consumer_url(request),
        typed=view.consumer.name,
    )


async def delete(request: PageRequest) -> Response:
    request.form.typed(request.path_param("consumerName"))
    await consumers.delete(request.work, path_of(request))
    request.waits_for_edges = True
    text = f"Consumer {request.path_param('consumerName')} deleted."
    return request.redirect(bucket_url(request), text)


async def show(request: PageRequest, **values: Any) -> Response:
    """The page of a consumer, with its keys masked."""
    layout: BucketLayout = await get_bucket_layout(request)
    view = await consumers.get(request.work, path_of(request), Include(keys=True, managers=True, invites=True))
    quotas = await list_for(request.work.tx, view.consumer)
    by_key = await usage.of_consumer(request.work, path_of(request), pictures.BY_KEY)
    sparks = pictures.sparks_of(by_key, request.work.now)
    shown = {"shown_key": "", "shown_secret": "", "quotas": quotas, "sparks": sparks, **values}
    return await render_bucket_page(
        request, "consumers/detail.html", layout, view=view, consumer=view.consumer, **shown
    )


def path_of(request: PageRequest) -> ConsumerPath:
    return ConsumerPath(*bucket_path(request), request.path_param("consumerName"))


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


_SWITCH = Switch("Consumer", "Its keys work again when you enable it.", _turn, consumer_url)
ROUTES = (
    GetRoute(BUCKET, consumer_list),
    PostRoute(BUCKET + "/search", search, form=consumer_list, is_once=False),
    GetRoute(BUCKET + "/consumers/new", new_consumer),
    PostRoute(BUCKET + "/consumers/new", create, form=new_consumer, action="consumer.create", conflict="name"),
    GetRoute(CONSUMER, consumer_page),
    GetRoute(CONSUMER + "/edit", edit),
    PostRoute(CONSUMER + "/edit", update, form=edit, action="consumer.update"),
    GetRoute(CONSUMER + "/disable", back),
    GetRoute(CONSUMER + "/enable", back),
    *_SWITCH.routes(CONSUMER, "consumer.update"),
    GetRoute(CONSUMER + "/delete", ask_delete),
    PostRoute(CONSUMER + "/delete", delete, form=ask_delete, action="consumer.delete"),
)
