"""Those who manage a consumer together: invite another one, remove one, take back an invite."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.text import EMAIL_LENGTH, is_email
from keywright.origin.consumers.invite_mail import Invites
from keywright.origin.consumers.portal import title_of
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web import portal_layout as frame
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

INVITES_PER_SECOND = 0.1
INVITES_AT_ONCE = 20


def register(door: Door) -> None:
    invites = Invites(per_second=INVITES_PER_SECOND, at_once=INVITES_AT_ONCE)
    base = "/consumers/{consumerName}/managers"

    @door.get(base)
    async def manager_list(visit: Visit) -> Response:
        place = await frame.enter(visit)
        _, view = await self_serve.get_consumer(visit.work, frame.ref(visit))
        url = frame.consumer_url(visit)
        title = title_of(view.consumer)
        return await frame.page(visit, "consumers/managers.html", place, view=view, url=url, title=title)

    @door.post(base, form=manager_list, action="self-serve.manager.create", conflict="email")
    async def invite(visit: Visit) -> Response:
        place = await frame.enter(visit)
        email = visit.form.line("email", most=EMAIL_LENGTH, is_required=True) or ""
        if email and not is_email(email):
            visit.form.fail("email", "must be an e-mail address")
        visit.form.check()
        await self_serve.invite(visit.work, frame.ref(visit), email=email)
        await invites.announce(visit, place.bucket, [email.lower()])
        words = f"{email.lower()} is invited: it takes effect when they sign in here with this address."
        return visit.go(frame.consumer_url(visit, "managers"), words)

    @door.get(base + "/{managerId}/remove")
    async def remove_form(visit: Visit) -> Response:
        place = await frame.enter(visit)
        person = await self_serve.get_manager(visit.work, frame.ref(visit), visit.at("managerId"))
        is_self = person.sub == visit.work.actor.sub
        lines = [
            "You will not see this consumer and its keys any more."
            if is_self
            else f"{person.email} will not see this consumer and its keys any more. Keys that they know go on working."
        ]
        heading = "Leave this consumer?" if is_self else f"Remove {person.email}?"
        return await frame.confirm(visit, place, heading=heading, lines=lines, button="Leave" if is_self else "Remove")

    @door.post(base + "/{managerId}/remove", form=manager_list, action="self-serve.manager.delete")
    async def remove(visit: Visit) -> Response:
        await frame.enter(visit)
        person = await self_serve.get_manager(visit.work, frame.ref(visit), visit.at("managerId"))
        await self_serve.remove_manager(visit.work, frame.ref(visit), person.id)
        is_self = person.sub == visit.work.actor.sub
        url = visit.base if is_self else frame.consumer_url(visit, "managers")
        return visit.go(url, "You have left." if is_self else f"{person.email} is removed.")
