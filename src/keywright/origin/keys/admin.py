"""Keys of a consumer: shown, copied, made, changed, rolled, revoked."""

from __future__ import annotations

from datetime import datetime

from fastapi import Response

from keywright.domain.keyformat import Secret
from keywright.domain.models import Consumer, Key
from keywright.domain.unset import UNSET, updated
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.admin import CONSUMER, back, consumer_url, path_of, show
from keywright.origin.consumers.rules import Include
from keywright.origin.keys import rules as keys
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.web.admin_layout import (
    MAY_NOT_WRITE,
    BucketLayout,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
    show_secret,
)
from keywright.origin.web.forms import CUSTOM, NEVER, Form, restriction_fields, tags_text
from keywright.origin.web.limit_fields import LIMIT_SCOPES, ROWS, rate_limit_fields, read_rate_limits
from keywright.origin.web.rendering import moment, pretty
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute, RateLimit
from keywright.origin.web.switch import Switch

KEY = CONSUMER + "/keys/{keyId}"
REVEALS = RateLimit(per_second=0.5, burst=30, message="You have revealed or copied too many keys.")
"""By one actor: a person looks at a few, a thief wants them all."""


async def reveal(request: PageRequest) -> Response:
    request.limit(REVEALS, request.work.actor.sub)
    secret = await keys.show(request.work, path_of(request), request.path_param("keyId"))
    if request.wants_json:
        return request.json(secret=secret.reveal())
    return await show(request, shown_key=request.path_param("keyId"), shown_secret=secret.reveal())


async def copy(request: PageRequest) -> Response:
    request.limit(REVEALS, request.work.actor.sub)
    secret = await keys.show(request.work, path_of(request), request.path_param("keyId"))
    return request.json(secret=secret.reveal())


async def new_key(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    consumer = (await consumers.get(request.work, path_of(request), Include())).consumer
    form = request.form.or_initial(expires=NEVER, **restriction_fields(None, None), **rate_limit_fields(None))
    return await _render_form(request, layout, form, consumer, None)


async def create(request: PageRequest) -> Response:
    form = request.form
    draft = KeyDraft(
        form.description(),
        form.expiry(request.work.now),
        scopes=updated(form.own_scopes(), None),
        allowed_ips=updated(form.allowed_ips(), None),
        metadata=form.metadata(),
        tags=form.tags(),
        rate_limits=updated(read_rate_limits(form), None) or None,
    )
    form.check()
    (made,) = await keys.create(request.work, path_of(request), [draft])
    expiry = f"It expires on {moment(draft.expires_at)}." if draft.expires_at else "It never expires."
    return await _show_made(request, "Key created", made.secret, f"It works now. {expiry}")


async def edit(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    _, consumer, key = await keys.get(request.work, path_of(request), request.path_param("keyId"))
    form = request.form.or_initial(
        description=key.description,
        expires=CUSTOM if key.expires_at else NEVER,
        expires_at=_typed(key.expires_at),
        metadata=pretty(key.metadata) if key.metadata else "",
        tags=tags_text(key.tags),
        **restriction_fields(key.scopes, key.allowed_ips),
        **rate_limit_fields(key.rate_limits),
    )
    return await _render_form(request, layout, form, consumer, key)


async def _render_form(
    request: PageRequest, layout: BucketLayout, form: Form, consumer: Consumer, key: Key | None
) -> Response:
    return await render_bucket_page(
        request,
        "consumers/key_form.html",
        layout,
        form=form,
        consumer=consumer,
        key=key,
        rows=ROWS,
        limit_scopes=LIMIT_SCOPES,
    )


async def update(request: PageRequest) -> Response:
    form = request.form
    _, _, key = await keys.get(request.work, path_of(request), request.path_param("keyId"))
    is_kept = form.get("expires") == CUSTOM and form.get("expires_at") == _typed(key.expires_at)
    # Left as it is, an expiry may be in the past, and keeps its seconds.
    description, expires_at = form.description(), UNSET if is_kept else form.expiry(request.work.now)
    scopes, allowed_ips, metadata, tags = form.own_scopes(), form.allowed_ips(), form.metadata(), form.tags()
    rate_limits = read_rate_limits(form)
    form.check()
    await keys.update(
        request.work,
        path_of(request),
        request.path_param("keyId"),
        description=description,
        expires_at=expires_at,
        secret=UNSET,
        scopes=scopes,
        allowed_ips=allowed_ips,
        metadata=metadata,
        tags=tags,
        rate_limits=rate_limits or None,
    )
    href = consumer_url(request, "keys", request.path_param("keyId"), "edit")
    return request.redirect(consumer_url(request), "Key saved.", href=href, link="Edit again")


async def _turn(request: PageRequest, is_enabled: bool) -> None:
    await keys.update(
        request.work,
        path_of(request),
        request.path_param("keyId"),
        description=UNSET,
        expires_at=UNSET,
        secret=UNSET,
        enabled=is_enabled,
    )


async def ask_roll(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    view = await consumers.get(request.work, path_of(request), Include(keys=True))
    form = request.form.or_initial(expires="24h")
    return await render_bucket_page(
        request, "consumers/key_roll.html", layout, form=form, consumer=view.consumer, keys=view.keys
    )


async def roll(request: PageRequest) -> Response:
    ends_at = request.form.expiry(request.work.now)
    if request.form.get("expires") == NEVER:
        request.form.fail("expires", "must be one of those that are offered")
    request.form.check()
    _, made = await keys.roll(request.work, path_of(request), expires_at=ends_at)
    if ends_at is None:
        request.flash("The rolled keys no longer work.")
        request.waits_for_edges = True
    until = "have expired" if ends_at is None else f"expire on {moment(ends_at)}, unless they expire sooner"
    words = f"It works now. The consumer's other keys {until}."
    return await _show_made(request, "Keys rolled", made.secret, words)


async def ask_revoke(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    _, consumer, key = await keys.get(request.work, path_of(request), request.path_param("keyId"))
    named = f" “{key.description}”" if key.description else ""
    known_as = f" ({consumer.description})" if consumer.description else ""
    return await render_confirmation(
        request,
        heading=f"Revoke key ****{key.hint}",
        lines=[
            f"The key{named} belongs to the consumer {consumer.name}{known_as} in the bucket {layout.bucket.name}.",
            "It stops working immediately. This can't be undone.",
            "To leave time to switch over, roll the consumer's keys instead.",
        ],
        button="Revoke key",
        back=consumer_url(request),
    )


async def revoke(request: PageRequest) -> Response:
    await keys.delete(request.work, path_of(request), request.path_param("keyId"))
    request.waits_for_edges = True
    return request.redirect(
        consumer_url(request),
        "Key revoked.",
        href=consumer_url(request, "keys", "new"),
        link="Create another key",
    )


async def _show_made(request: PageRequest, heading: str, secret: Secret, words: str) -> Response:
    label, on = f"New key of {request.path_param('consumerName')}", (consumer_url(request), "Back to consumer")
    return await show_secret(request, heading=heading, label=label, secret=secret, words=words, on=on)


def _typed(expires_at: datetime | None) -> str:
    """A time as its field has it."""
    return f"{expires_at:%Y-%m-%dT%H:%M}" if expires_at else ""


_SWITCH = Switch("Key", "It works again when you enable it.", _turn, consumer_url)
ROUTES = (
    GetRoute(KEY + "/reveal", back),
    GetRoute(KEY + "/copy", back),
    PostRoute(KEY + "/reveal", reveal, form=None, action="key.reveal", is_once=False),
    PostRoute(KEY + "/copy", copy, form=None, action="key.copy", is_once=False),
    GetRoute(CONSUMER + "/keys/new", new_key),
    PostRoute(CONSUMER + "/keys/new", create, form=new_key, action="key.create"),
    GetRoute(KEY + "/edit", edit),
    PostRoute(KEY + "/edit", update, form=edit, action="key.update"),
    GetRoute(KEY + "/disable", back),
    GetRoute(KEY + "/enable", back),
    *_SWITCH.routes(KEY, "key.update"),
    GetRoute(CONSUMER + "/roll", ask_roll),
    PostRoute(CONSUMER + "/roll", roll, form=ask_roll, action="consumer.roll-key"),
    GetRoute(KEY + "/revoke", ask_revoke),
    PostRoute(KEY + "/revoke", revoke, form=ask_revoke, action="key.delete"),
)
