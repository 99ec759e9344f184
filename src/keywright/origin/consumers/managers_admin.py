"""Those who manage a consumer: inviting one, and removing one. They are shown on the consumer's own page."""

from __future__ import annotations

from fastapi import Response

from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.admin import CONSUMER, INVITES, consumer_url, path_of, show
from keywright.origin.consumers.invite_mail import send_invites
from keywright.origin.consumers.rules import ManagerDraft
from keywright.origin.web.admin_layout import MAY_NOT_WRITE, get_bucket_layout, render_confirmation, require
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute


async def add(request: PageRequest) -> Response:
    email = request.form.email()
    request.form.check()
    await consumers.add_manager(request.work, path_of(request), ManagerDraft(email))
    await send_invites(request, (await get_bucket_layout(request)).bucket, [email], INVITES)
    url = consumer_url(request) + "#managers"
    return request.redirect(url, f"Invited {email}. They become a manager when they sign in with this address.")


async def ask_remove(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    manager = await consumers.get_manager(request.work, path_of(request), request.path_param("managerId"))
    return await render_confirmation(
        request,
        heading=f"Remove {manager.email}",
        lines=["They can no longer view or change this consumer's keys. The keys themselves keep working."],
        button="Remove manager" if manager.sub else "Withdraw invite",
        back=consumer_url(request),
    )


async def remove(request: PageRequest) -> Response:
    manager = await consumers.delete_manager(request.work, path_of(request), request.path_param("managerId"))
    url = consumer_url(request) + "#managers"
    return request.redirect(url, f"Removed {manager.email}.")


ROUTES = (
    PostRoute(CONSUMER + "/managers", add, form=show, action="manager.create", conflict="email"),
    GetRoute(CONSUMER + "/managers/{managerId}/remove", ask_remove),
    PostRoute(CONSUMER + "/managers/{managerId}/remove", remove, form=ask_remove, action="manager.delete"),
)
