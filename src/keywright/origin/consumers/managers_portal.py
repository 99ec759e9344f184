"""Those who manage a consumer together: invite another one, remove one, take back an invite."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import Manager
from keywright.origin.consumers.invite_mail import send_invites
from keywright.origin.consumers.portal import CONSUMER, title_of
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web.portal_layout import (
    consumer_ref,
    consumer_url,
    render_confirmation,
    render_page,
    require_sign_in,
)
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute, RateLimit

MANAGERS = CONSUMER + "/managers"
INVITES = RateLimit(per_second=0.1, burst=20, message="You have sent too many invites.")


async def manager_list(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    _, view = await self_serve.get_consumer(request.work, consumer_ref(request))
    url = consumer_url(request)
    title = title_of(view.consumer)
    return await render_page(request, "consumers/managers.html", portal, view=view, url=url, title=title)


async def invite(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    email = request.form.email()
    request.form.check()
    await self_serve.invite(request.work, consumer_ref(request), email=email)
    await send_invites(request, portal.bucket, [email], INVITES)
    words = f"Invited {email}. They become a manager when they sign in."
    return request.redirect(consumer_url(request, "managers"), words)


def _is_self(request: PageRequest, person: Manager) -> bool:
    actor = request.work.actor
    return (person.sub, person.issuer) == (actor.sub, actor.issuer)


async def remove_form(request: PageRequest) -> Response:
    portal = await require_sign_in(request)
    person = await self_serve.get_manager(request.work, consumer_ref(request), request.path_param("managerId"))
    is_self = _is_self(request, person)
    lines = [
        "You will lose access to this consumer and its keys."
        if is_self
        else f"{person.email} will lose access to this consumer. Keys they know keep working."
    ]
    heading = "Leave this consumer?" if is_self else f"Remove {person.email}?"
    return await render_confirmation(
        request, portal, heading=heading, lines=lines, button="Leave" if is_self else "Remove"
    )


async def remove(request: PageRequest) -> Response:
    await require_sign_in(request)
    person = await self_serve.get_manager(request.work, consumer_ref(request), request.path_param("managerId"))
    await self_serve.remove_manager(request.work, consumer_ref(request), person.id)
    is_self = _is_self(request, person)
    url = request.base if is_self else consumer_url(request, "managers")
    return request.redirect(url, "You are no longer a manager." if is_self else f"Removed {person.email}.")


ROUTES = (
    GetRoute(MANAGERS, manager_list),
    PostRoute(MANAGERS, invite, form=manager_list, action="self-serve.manager.create", conflict="email"),
    GetRoute(MANAGERS + "/{managerId}/remove", remove_form),
    PostRoute(MANAGERS + "/{managerId}/remove", remove, form=manager_list, action="self-serve.manager.delete"),
)
