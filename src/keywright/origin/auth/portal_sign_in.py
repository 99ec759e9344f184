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
from keywright.origin.web import portal_layout
from keywright.origin.web.forms import Form
from keywright.origin.web.portal_layout import DeveloperPortal
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter, limit

log = logging.getLogger("keywright.origin")

REQUESTS_PER_SECOND = 0.1
FROM_ONE_ADDRESS_AT_ONCE = 20
TO_ONE_MAILBOX_AT_ONCE = 5


def register(router: PageRouter, services: Services) -> None:
    by_address = RateLimiter(REQUESTS_PER_SECOND, FROM_ONE_ADDRESS_AT_ONCE)
    by_mailbox = RateLimiter(REQUESTS_PER_SECOND / 10, TO_ONE_MAILBOX_AT_ONCE)
    has_provider = services.end_users is not None and services.end_users.client is not None

    @router.get("/sign-in", is_open=True)
    async def sign_in_page(request: PageRequest) -> Response:
        portal = await portal_layout.get_portal(request)
        if portal_layout.is_signed_in(request, portal):
            return request.redirect(router.safe(request.http_request, request.query("next")))
        form = request.form.or_initial(next=request.query("next"))
        return await _show(request, portal, form)

    async def _show(request: PageRequest, portal: DeveloperPortal, form: Form, status: int = 200) -> Response:
        provider_url = f"{request.base}/sign-in/oidc?next={quote(form.get('next'), safe='')}" if has_provider else ""
        return await request.render(
            "developer/sign_in.html",
            status,
            portal=portal,
            brand=portal.brand,
            form=form,
            provider_url=provider_url,
            has_ended=request.query("ended"),
            has_left=request.query("left"),
        )

    @router.post("/sign-in", form=sign_in_page, is_open=True)
    async def request_link(request: PageRequest) -> Response:
        portal = await portal_layout.get_portal(request)
        _need_mail(has_provider)
        email = request.form.line("email", most=EMAIL_LENGTH, is_required=True) or ""
        if email and not is_email(email):
            request.form.fail("email", "must be an e-mail address")
        request.form.check()
        client = request.http_request.client
        limit(by_address, client.host if client else "", "Too many links were asked for from your address.")
        limit(by_mailbox, email.lower(), "Too many links were asked for this address.")
        letter = await rules.request_link(request.work, portal.bucket, email=email, visitor=request.token)
        response = await request.render(
            "developer/check_your_email.html", portal=portal, brand=portal.brand, email=email.lower()
        )
        if letter is not None and services.mailer is not None:
            url = f"{services.public_url}{request.base}/sign-in/link?token={letter.token.reveal()}"
            # After the answer, whose time then tells nobody whether a letter was sent.
            response.background = BackgroundTask(_send, services.mailer, portal.name, letter, url)
        return response

    @router.get("/sign-in/link", is_open=True)
    async def link_page(request: PageRequest) -> Response:
        portal = await portal_layout.get_portal(request)
        if portal_layout.is_signed_in(request, portal):
            return request.redirect(request.base)
        token = request.query("token")[:200]
        try:
            email = await rules.find_address(request.work, portal.bucket, token=token, visitor=request.token)
        except BadRequest as problem:
            form = Form.initial(next="")
            form.message = problem.detail or ""
            return await _show(request, portal, form, 400)
        # A button, not a redirect: programs that look at links in mails use none up.
        return await request.render(
            "developer/sign_in_confirm.html", portal=portal, brand=portal.brand, email=email, link_token=token
        )

    @router.post("/sign-in/link", form=sign_in_page, action="portal.sign-in", is_open=True)
    async def use_link(request: PageRequest) -> Response:
        portal = await portal_layout.get_portal(request)
        _need_mail(has_provider)
        token = request.form.get("token")[:200]
        user = await rules.use_link(request.work, portal.bucket, token=token, visitor=request.token)
        return await begin_session(request, portal, user, request.base)

    if has_provider:
        oidc.register(router, begin_session)


async def begin_session(request: PageRequest, portal: DeveloperPortal, user: EndUser, url: str) -> Response:
    """Accepts what the user is invited to, and signs in."""
    actor = user.to_actor()
    await self_serve.accept_invites(replace(request.work, actor=actor), portal.bucket)
    who = SignedIn(user.connection, bucket_number=portal.bucket.number, sub=user.sub, email=user.email)
    return await request.sign_in(who, url, actor)


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
