"""The keys of a user's consumer: reveal, create, roll, delete."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.unset import UNSET, Unset
from keywright.origin.consumers.portal import CONSUMER, render_created_key, title_of
from keywright.origin.keys.powers import granted_to
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web.forms import NEVER, restriction_fields
from keywright.origin.web.portal_layout import (
    consumer_ref,
    consumer_url,
    render_confirmation,
    render_page,
    require_sign_in,
)
from keywright.origin.web.rendering import moment
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute, RateLimit
from keywright.origin.web.switch import Switch

KEY = CONSUMER + "/keys/{keyId}"
REVEALS = RateLimit(per_second=0.5, burst=20, message="You have revealed too many keys.")


async def reveal(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    request.limit(REVEALS, request.work.actor.sub)
    key, secret = await self_serve.reveal_key(request.work, consumer_ref(request), request.path_param("keyId"))
    if request.wants_json:
        return request.json(secret=secret.reveal())
    url = consumer_url(request)
    return await render_page(request, "keys/revealed.html", portal, key=key, secret=secret.reveal(), url=url)


async def new_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    form = request.form.or_initial(expires=NEVER)
    url = consumer_url(request)
    return await render_page(request, "keys/new.html", portal, form=form, url=url, title=title_of(view.consumer))


async def create(request: PageRequest) -> Response:
    await require_sign_in(request)
    description, expires_at = request.form.description(), request.form.expiry(request.work.now)
    request.form.check()
    _, made = await self_serve.create_key(
        request.work, consumer_ref(request), description=description, expires_at=expires_at
    )
    return await render_created_key(request, request.path_param("consumerName"), made.secret.reveal())


async def restrict_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    bucket, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    key = await self_serve.get_key(request.work, consumer_ref(request), request.path_param("keyId"))
    form = request.form.or_initial(**restriction_fields(key.scopes, key.allowed_ips))
    return await render_page(
        request,
        "keys/restrict.html",
        portal,
        form=form,
        key=key,
        granted=sorted(granted_to(bucket, view.consumer).names),
        url=consumer_url(request),
        title=title_of(view.consumer),
    )


async def restrict(request: PageRequest) -> Response:
    await require_sign_in(request)
    scopes, allowed_ips = request.form.own_scopes(), request.form.allowed_ips()
    request.form.check()
    await _update(request, scopes=scopes, allowed_ips=allowed_ips)
    request.waits_for_edges = True
    return request.redirect(consumer_url(request), "Restrictions saved.")


async def _turn(request: PageRequest, is_enabled: bool) -> None:
    await require_sign_in(request)
    await _update(request, enabled=is_enabled)


async def _update(
    request: PageRequest,
    *,
    enabled: bool | Unset = UNSET,
    scopes: list[str] | Unset | None = UNSET,
    allowed_ips: list[str] | Unset | None = UNSET,
) -> None:
    ref, key_id = consumer_ref(request), request.path_param("keyId")
    await self_serve.update_key(request.work, ref, key_id, enabled=enabled, scopes=scopes, allowed_ips=allowed_ips)


async def roll_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    form = request.form.or_initial(expires="24h")
    url = consumer_url(request)
    return await render_page(
        request, "keys/roll.html", portal, form=form, url=url, title=title_of(view.consumer), keys=view.keys
    )


async def roll(request: PageRequest) -> Response:
    await require_sign_in(request)
    # "Never" is no choice of this form: it would leave the old keys as they are.
    expires_at = request.form.expiry(request.work.now)
    if request.form.get("expires") == NEVER:
        request.form.fail("expires", "must be one of those that are offered")
    request.form.check()
    _, made = await self_serve.roll(request.work, consumer_ref(request), expires_at=expires_at, is_shown=True)
    if expires_at is not None:
        until = f"Your current keys expire on {moment(expires_at)}, unless they expire sooner."
        return await render_created_key(request, request.path_param("consumerName"), made.secret.reveal(), until)
    request.flash("Your other keys no longer work.")
    request.waits_for_edges = True
    return await render_created_key(
        request, request.path_param("consumerName"), made.secret.reveal(), "Your other keys no longer work."
    )


async def delete_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    key = await self_serve.get_key(request.work, consumer_ref(request), request.path_param("keyId"))
    name = f"“{key.description}”, the key ending in {key.hint}," if key.description else f"The key ending in {key.hint}"
    lines = [
        f"{name} belongs to {title_of(view.consumer)}.",
        "It stops working immediately, for everybody who uses it. This can't be undone.",
    ]
    return await render_confirmation(request, portal, heading="Delete this key?", lines=lines, button="Delete key")


async def delete(request: PageRequest) -> Response:
    await require_sign_in(request)
    await self_serve.delete_key(request.work, consumer_ref(request), request.path_param("keyId"))
    request.waits_for_edges = True
    return request.redirect(consumer_url(request), "Key deleted.")


_SWITCH = Switch("Key", "It works again when you enable it.", _turn, consumer_url)
ROUTES = (
    PostRoute(KEY + "/reveal", reveal, form=None, action="self-serve.key.reveal", is_once=False),
    GetRoute(CONSUMER + "/keys/new", new_form),
    PostRoute(CONSUMER + "/keys/new", create, form=new_form, action="self-serve.key.create"),
    GetRoute(KEY + "/restrict", restrict_form),
    PostRoute(KEY + "/restrict", restrict, form=restrict_form, action="self-serve.key.update"),
    *_SWITCH.routes(KEY, "self-serve.key.update"),
    GetRoute(CONSUMER + "/roll", roll_form),
    PostRoute(CONSUMER + "/roll", roll, form=roll_form, action="self-serve.consumer.roll-key"),
    GetRoute(KEY + "/delete", delete_form),
    PostRoute(KEY + "/delete", delete, form=delete_form, action="self-serve.key.delete"),
)
