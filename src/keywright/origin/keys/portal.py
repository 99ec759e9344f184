"""The keys of a user's consumer: reveal, create, roll, delete."""

from __future__ import annotations

from fastapi import Response

from keywright.origin.consumers.portal import show_made, title_of
from keywright.origin.pipeline.route import RateLimiter
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web import portal_layout as frame
from keywright.origin.web.forms import NEVER
from keywright.origin.web.pages import moment
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door, limit

REVEALS_PER_SECOND = 0.5
REVEALS_AT_ONCE = 20


def register(door: Door) -> None:
    reveals = RateLimiter(REVEALS_PER_SECOND, REVEALS_AT_ONCE)
    base = "/consumers/{consumerName}"

    @door.post(base + "/keys/{keyId}/reveal", form=None, action="self-serve.key.reveal", is_once=False)
    async def reveal(visit: Visit) -> Response:
        place = await frame.enter(visit)
        limit(reveals, visit.work.actor.sub, "You are looking at many keys.")
        key, secret = await self_serve.reveal_key(visit.work, frame.ref(visit), visit.at("keyId"))
        if visit.wants_json:
            return visit.json(secret=secret.reveal())
        url = frame.consumer_url(visit)
        return await frame.page(visit, "keys/revealed.html", place, key=key, secret=secret.reveal(), url=url)

    @door.get(base + "/keys/new")
    async def new_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        form = visit.form.or_of(expires=NEVER)
        url = frame.consumer_url(visit)
        return await frame.page(visit, "keys/new.html", place, form=form, url=url, title=title_of(view.consumer))

    @door.post(base + "/keys/new", form=new_form, action="self-serve.key.create")
    async def create(visit: Visit) -> Response:
        await frame.enter(visit)
        description, expires_at = visit.form.description(), visit.form.expiry(visit.work.now)
        visit.form.check()
        _, made = await self_serve.create_key(
            visit.work, frame.ref(visit), description=description, expires_at=expires_at
        )
        return await show_made(visit, made.secret.reveal())

    @door.get(base + "/roll")
    async def roll_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        form = visit.form.or_of(expires="24h")
        url = frame.consumer_url(visit)
        return await frame.page(visit, "keys/roll.html", place, form=form, url=url, title=title_of(view.consumer))

    @door.post(base + "/roll", form=roll_form, action="self-serve.consumer.roll-key")
    async def roll(visit: Visit) -> Response:
        await frame.enter(visit)
        # "Never" is no choice of this form: it would leave the old keys as they are.
        expires_at = visit.form.expiry(visit.work.now)
        if visit.form.get("expires") == NEVER:
            visit.form.fail("expires", "must be one of those that are offered")
        visit.form.check()
        _, made = await self_serve.roll(visit.work, frame.ref(visit), expires_at=expires_at, is_shown=True)
        if expires_at is not None:
            until = f"Your current keys work until {moment(expires_at)}, unless they end sooner."
            return await show_made(visit, made.secret.reveal(), until)
        visit.tell("Your other keys are ended.")
        visit.is_awaited = True
        return await show_made(visit, made.secret.reveal(), "Your other keys have stopped working.")

    @door.get(base + "/keys/{keyId}/delete")
    async def delete_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        key = await self_serve.get_key(visit.work, frame.ref(visit), visit.at("keyId"))
        name = key.description or f"the key that ends in {key.hint}"
        lines = [f"It stops working at once: {name}, ending in {key.hint}. There is no way back."]
        return await frame.confirm(visit, place, heading="Delete this key?", lines=lines, button="Delete key")

    @door.post(base + "/keys/{keyId}/delete", form=delete_form, action="self-serve.key.delete")
    async def delete(visit: Visit) -> Response:
        await frame.enter(visit)
        await self_serve.delete_key(visit.work, frame.ref(visit), visit.at("keyId"))
        visit.is_awaited = True
        return visit.go(frame.consumer_url(visit), "The key is deleted.")
