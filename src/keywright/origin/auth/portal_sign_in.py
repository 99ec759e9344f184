"""Signing in to a developer portal: by a link that is sent by e-mail, or with the identity provider if there is one.

The provider's side is in oidc.py. Whoever signs in accepts the invites of their address.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from urllib.parse import quote

from fastapi import Response
from starlette.background import BackgroundTask

from keywright.domain.problems import BadRequest, NotFound
from keywright.domain.text import EMAIL_LENGTH, is_email
from keywright.origin.auth import email_links as rules
from keywright.origin.auth import portal_oidc as oidc
from keywright.origin.auth.email_links import Letter
from keywright.origin.auth.sessions import SignedIn
from keywright.origin.mail import Mailer, MailNotSent
from keywright.origin.pipeline.route import RateLimiter, Services
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.self_serve.rules import EndUser
from keywright.origin.web import portal_layout as frame
from keywright.origin.web.forms import Form
from keywright.origin.web.portal_layout import Place
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door, limit

log = logging.getLogger("keywright.origin")

REQUESTS_PER_SECOND = 0.1
FROM_ONE_ADDRESS_AT_ONCE = 20
TO_ONE_MAILBOX_AT_ONCE = 5


def register(door: Door, services: Services) -> None:
    by_address = RateLimiter(REQUESTS_PER_SECOND, FROM_ONE_ADDRESS_AT_ONCE)
    by_mailbox = RateLimiter(REQUESTS_PER_SECOND / 10, TO_ONE_MAILBOX_AT_ONCE)
    has_provider = services.end_users is not None and services.end_users.client is not None

    @door.get("/sign-in", is_open=True)
    async def sign_in_page(visit: Visit) -> Response:
        place = await frame.look(visit)
        if frame.is_signed_in(visit, place):
            return visit.go(door.safe(visit.request, visit.ask("next")))
        form = visit.form.or_of(next=visit.ask("next"))
        return await _show(visit, place, form)

    async def _show(visit: Visit, place: Place, form: Form, status: int = 200) -> Response:
        provider_url = f"{visit.base}/sign-in/oidc?next={quote(form.get('next'), safe='')}" if has_provider else ""
        return await visit.page(
            "developer/sign_in.html",
            status,
            place=place,
            brand=place.brand,
            form=form,
            provider_url=provider_url,
            has_ended=visit.ask("ended"),
            has_left=visit.ask("left"),
        )

    @door.post("/sign-in", form=sign_in_page, is_open=True)
    async def request_link(visit: Visit) -> Response:
        place = await frame.look(visit)
        _need_mail(has_provider)
        email = visit.form.line("email", most=EMAIL_LENGTH, is_required=True) or ""
        if email and not is_email(email):
            visit.form.fail("email", "must be an e-mail address")
        visit.form.check()
        client = visit.request.client
        limit(by_address, client.host if client else "", "Too many links were asked for from your address.")
        limit(by_mailbox, email.lower(), "Too many links were asked for this address.")
        letter = await rules.request_link(visit.work, place.bucket, email=email, visitor=visit.token)
        response = await visit.page(
            "developer/check_your_email.html", place=place, brand=place.brand, email=email.lower()
        )
        if letter is not None and services.mailer is not None:
            url = f"{services.public_url}{visit.base}/sign-in/link?token={letter.token.reveal()}"
            # After the answer, whose time then tells nobody whether a letter was sent.
            response.background = BackgroundTask(_send, services.mailer, place.name, letter, url)
        return response

    @door.get("/sign-in/link", is_open=True)
    async def link_page(visit: Visit) -> Response:
        place = await frame.look(visit)
        if frame.is_signed_in(visit, place):
            return visit.go(visit.base)
        token = visit.ask("token")[:200]
        try:
            email = await rules.find_address(visit.work, place.bucket, token=token, visitor=visit.token)
        except BadRequest as problem:
            form = Form.of(next="")
            form.message = problem.detail or ""
            return await _show(visit, place, form, 400)
        # A button, not a redirect: programs that look at links in mails use none up.
        return await visit.page(
            "developer/sign_in_confirm.html", place=place, brand=place.brand, email=email, link_token=token
        )

    @door.post("/sign-in/link", form=sign_in_page, action="portal.sign-in", is_open=True)
    async def use_link(visit: Visit) -> Response:
        place = await frame.look(visit)
        _need_mail(has_provider)
        token = visit.form.get("token")[:200]
        user = await rules.use_link(visit.work, place.bucket, token=token, visitor=visit.token)
        return await begin_session(visit, place, user, visit.base)

    if has_provider:
        oidc.register(door, begin_session)


async def begin_session(visit: Visit, place: Place, user: EndUser, url: str) -> Response:
    """Accepts what the user is invited to, and signs in."""
    actor = user.to_actor()
    await self_serve.accept_invites(replace(visit.work, actor=actor), place.bucket)
    who = SignedIn(user.connection, bucket_number=place.bucket.number, sub=user.sub, email=user.email)
    return await visit.sign_in(who, url, actor)


def _need_mail(has_provider: bool) -> None:
    if has_provider:
        # One way in: else a mailbox alone would do where its owner is asked for a second factor.
        raise NotFound("This portal does not send links: sign in with the identity provider.")


async def _send(mailer: Mailer, portal_name: str, letter: Letter, url: str) -> None:
    minutes = int(rules.LINK_LIFE.total_seconds() // 60)
    text = (
        f"Sign in to {portal_name} with this link, in the browser in which you asked for it:\n\n{url}\n\n"
        f"It works once, for {minutes} minutes. If you did not ask for it, do nothing: nobody can use it but whoever"
        " asked, and they would need this mail.\n"
    )
    try:
        await mailer.send(to=letter.email, subject=f"Sign in to {portal_name}", text=text, sender_name=portal_name)
    except (MailNotSent, ValueError, asyncio.CancelledError) as error:
        log.warning("a sign-in link could not be sent: %s", type(error).__name__)
