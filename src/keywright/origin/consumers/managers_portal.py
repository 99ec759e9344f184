"""Those who manage a consumer together: invite another one, remove one, take back an invite."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.text import EMAIL_LENGTH, is_email
from keywright.origin.consumers.invite_mail import Invites
from keywright.origin.consumers.portal import title_of
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web import portal_layout
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

INVITES_PER_SECOND = 0.1
INVITES_AT_ONCE = 20


def register(router: PageRouter) -> None:
    invites = Invites(per_second=INVITES_PER_SECOND, at_once=INVITES_AT_ONCE)
    base = "/consumers/{consumerName}/managers"

    @router.get(base)
    async def manager_list(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        _, view = await self_serve.get_consumer(request.work, portal_layout.consumer_ref(request))
        url = portal_layout.consumer_url(request)
        title = title_of(view.consumer)
        return await portal_layout.render_page(
            request, "consumers/managers.html", portal, view=view, url=url, title=title
        )

    @router.post(base, form=manager_list, action="self-serve.manager.create", conflict="email")
    async def invite(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        email = request.form.line("email", most=EMAIL_LENGTH, is_required=True) or ""
        if email and not is_email(email):
            request.form.fail("email", "must be an e-mail address")
        request.form.check()
        await self_serve.invite(request.work, portal_layout.consumer_ref(request), email=email)
        await invites.announce(request, portal.bucket, [email.lower()])
        words = f"{email.lower()} is invited: it takes effect when they sign in here with this address."
        return request.redirect(portal_layout.consumer_url(request, "managers"), words)

    @router.get(base + "/{managerId}/remove")
    async def remove_form(request: PageRequest) -> Response:
        portal = await portal_layout.require_sign_in(request)
        person = await self_serve.get_manager(
            request.work, portal_layout.consumer_ref(request), request.path_param("managerId")
        )
        is_self = person.sub == request.work.actor.sub
        lines = [
            "You will not see this consumer and its keys any more."
            if is_self
            else f"{person.email} will not see this consumer and its keys any more. Keys that they know go on working."
        ]
        heading = "Leave this consumer?" if is_self else f"Remove {person.email}?"
        return await portal_layout.render_confirmation(
            request, portal, heading=heading, lines=lines, button="Leave" if is_self else "Remove"
        )

    @router.post(base + "/{managerId}/remove", form=manager_list, action="self-serve.manager.delete")
    async def remove(request: PageRequest) -> Response:
        await portal_layout.require_sign_in(request)
        person = await self_serve.get_manager(
            request.work, portal_layout.consumer_ref(request), request.path_param("managerId")
        )
        await self_serve.remove_manager(request.work, portal_layout.consumer_ref(request), person.id)
        is_self = person.sub == request.work.actor.sub
        url = request.base if is_self else portal_layout.consumer_url(request, "managers")
        return request.redirect(url, "You have left." if is_self else f"{person.email} is removed.")
