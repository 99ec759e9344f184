"""The keys of a user's consumer: reveal, create, roll, delete."""

from __future__ import annotations

from fastapi import Response

from keywright.origin.consumers.portal import show_made, title_of
from keywright.origin.pipeline.route import RateLimiter
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web import portal_layout
from keywright.origin.web.forms import NEVER
from keywright.origin.web.rendering import moment
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter, limit

REVEALS_PER_SECOND = 0.5
REVEALS_AT_ONCE = 20


def register(router: PageRouter) -> None:
    reveals = RateLimiter(REVEALS_PER_SECOND, REVEALS_AT_ONCE)
    base = "/consumers/{consumerName}"

    @router.post(base + "/keys/{keyId}/reveal", form=None, action="self-serve.key.reveal", is_once=False)
    async def reveal(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        limit(reveals, request.work.actor.sub, "You are looking at many keys.")
        key, secret = await self_serve.reveal_key(
            request.work, portal_layout.consumer_ref(request), request.path_param("keyId")
        )
        if request.wants_json:
            return request.json(secret=secret.reveal())
        url = portal_layout.consumer_url(request)
        return await portal_layout.render_page(
            request, "keys/revealed.html", portal, key=key, secret=secret.reveal(), url=url
        )

    @router.get(base + "/keys/new")
    async def new_form(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        _, view = await self_serve.get_consumer(request.work, portal_layout.consumer_ref(request))
        form = request.form.or_initial(expires=NEVER)
        url = portal_layout.consumer_url(request)
        return await portal_layout.render_page(
            request, "keys/new.html", portal, form=form, url=url, title=title_of(view.consumer)
        )

    @router.post(base + "/keys/new", form=new_form, action="self-serve.key.create")
    async def create(request: PageRequest) -> Response:
        await portal_layout.require_sign_in(request)
        description, expires_at = request.form.description(), request.form.expiry(request.work.now)
        request.form.check()
        _, made = await self_serve.create_key(
            request.work, portal_layout.consumer_ref(request), description=description, expires_at=expires_at
        )
        return await show_made(request, made.secret.reveal())

    @router.get(base + "/roll")
    async def roll_form(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        _, view = await self_serve.get_consumer(request.work, portal_layout.consumer_ref(request))
        form = request.form.or_initial(expires="24h")
        url = portal_layout.consumer_url(request)
        return await portal_layout.render_page(
            request, "keys/roll.html", portal, form=form, url=url, title=title_of(view.consumer)
        )

    @router.post(base + "/roll", form=roll_form, action="self-serve.consumer.roll-key")
    async def roll(request: PageRequest) -> Response:
        await portal_layout.require_sign_in(request)
        # "Never" is no choice of this form: it would leave the old keys as they are.
        expires_at = request.form.expiry(request.work.now)
        if request.form.get("expires") == NEVER:
            request.form.fail("expires", "must be one of those that are offered")
        request.form.check()
        _, made = await self_serve.roll(
            request.work, portal_layout.consumer_ref(request), expires_at=expires_at, is_shown=True
        )
        if expires_at is not None:
            until = f"Your current keys work until {moment(expires_at)}, unless they end sooner."
            return await show_made(request, made.secret.reveal(), until)
        request.flash("Your other keys are ended.")
        request.waits_for_edges = True
        return await show_made(request, made.secret.reveal(), "Your other keys have stopped working.")

    @router.get(base + "/keys/{keyId}/delete")
    async def delete_form(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        key = await self_serve.get_key(request.work, portal_layout.consumer_ref(request), request.path_param("keyId"))
        name = key.description or f"the key that ends in {key.hint}"
        lines = [f"It stops working at once: {name}, ending in {key.hint}. There is no way back."]
        return await portal_layout.render_confirmation(
            request, portal, heading="Delete this key?", lines=lines, button="Delete key"
        )

    @router.post(base + "/keys/{keyId}/delete", form=delete_form, action="self-serve.key.delete")
    async def delete(request: PageRequest) -> Response:
        await portal_layout.require_sign_in(request)
        await self_serve.delete_key(request.work, portal_layout.consumer_ref(request), request.path_param("keyId"))
        request.waits_for_edges = True
        return request.redirect(portal_layout.consumer_url(request), "The key is deleted.")
