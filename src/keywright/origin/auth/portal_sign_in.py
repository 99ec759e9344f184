"""Signing in to a developer portal by a link that is sent by e-mail, or else by the identity provider.

The provider's side is in portal_oidc.py. Whoever signs in accepts the invites of their address.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from urllib.parse import quote

from fastapi import Response
from starlette.background import BackgroundTask

from keywright.domain import text
from keywright.domain.problems import BadRequest, NotFound
from keywright.origin.audit import rules as audit
from keywright.origin.auth import email_links
from keywright.origin.auth.attempts import AttemptLimit, LetterLimit, Pace
from keywright.origin.auth.email_links import Letter
from keywright.origin.auth.end_users import EndUser
from keywright.origin.auth.sessions import SignedIn
from keywright.origin.mail import Mailer, MailNotSent
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.self_serve import rules as self_serve
from keywright.origin.web.forms import Form
from keywright.origin.web.portal_layout import DeveloperPortal, get_portal, is_signed_in, render_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

log = logging.getLogger("keywright.origin")

LINKS = LetterLimit(
    browser=Pace(1 / 60, 10),
    address=Pace(0.2, 30),
    mailbox=Pace(1 / 50, 20),
    network=Pace(1 / 300, 4),
    first=Pace(1 / 600, 1),
    message="Too many links were requested.",
)
"""No mailbox may be flooded, and nobody may use up what its owner needs to sign in."""
CODES = AttemptLimit(Pace(0.2, 15), Pace(0.5, 60), "Too many codes were wrong.")
"""Beside the few tries that each link has: this keeps strangers from making us work."""


async def sign_in_page(request: PageRequest) -> Response:
    portal = await get_portal(request)
    if is_signed_in(request, portal):
        return request.redirect(request.safe_url(request.query("next")))
    return await _show_sign_in(request, portal, request.form.or_initial(next=request.query("next")))


async def request_link(request: PageRequest) -> Response:
    portal = await get_portal(request)
    _check_links_are_sent(request)
    email = request.form.email()
    request.form.check()
    request.counts(LINKS).take(request.attempt(email), email)
    letter = await email_links.request_link(request.work, portal.bucket, email=email, visitor=request.token)
    response = await _show_check_your_email(request, portal)
    services = request.services
    if letter is not None and services.mailer is not None:
        url = f"{services.public_url}{request.base}/sign-in/link?token={letter.token.reveal()}"
        # After the answer, whose time then tells nobody whether a letter was sent.
        response.background = BackgroundTask(_send, services.mailer, portal.name, letter, url)
    return response


async def use_code(request: PageRequest) -> Response:
    """Signs in the browser that asked for a link by the code that stands beside it in the letter."""
    portal = await get_portal(request)
    _check_links_are_sent(request)
    try:
        with request.counts(CODES).judging(request.attempt()):
            user = await _judge_code(request, portal)
    except _WrongCode as wrong:
        # Not raised any further: what is counted must stay.
        if wrong.has_link:
            await _log_wrong_code(request)
        request.work.audit_draft.action = None
        request.form.fail("code", "is wrong or has expired; after a few wrong ones, request a new e-mail")
        return await _show_check_your_email(request, portal, status=400)
    _give_back_link(request, user)
    return await begin_session(request, portal, user, request.safe_url(request.form.get("next")))


class _WrongCode(BadRequest):
    def __init__(self, *, has_link: bool) -> None:
        super().__init__("The code is wrong.")
        self.has_link = has_link


async def _judge_code(request: PageRequest, portal: DeveloperPortal) -> EndUser:
    code = request.form.line("code", most=40, is_required=True)
    judged = await email_links.use_code(request.work, portal.bucket, code=code or "", visitor=request.token)
    if judged.user is None:
        raise _WrongCode(has_link=judged.has_link)
    return judged.user


async def _log_wrong_code(request: PageRequest) -> None:
    source = request_source_of(request.http_request, "portal")
    work = request.work
    await audit.write(
        work.tx, actor=work.actor, audit_draft=work.audit_draft, source=source, now=work.now, error="A wrong code."
    )


async def link_page(request: PageRequest) -> Response:
    """Asks for a click, not a redirect: programs that look at links in mails use none up."""
    portal = await get_portal(request)
    if is_signed_in(request, portal):
        return request.redirect(request.base)
    token = request.query("token")[:200]
    try:
        email = await email_links.find_address(request.work, portal.bucket, token=token, visitor=request.token)
    except BadRequest as problem:
        form = Form.initial(next="")
        form.message = problem.detail or ""
        return await _show_sign_in(request, portal, form, status=400)
    return await render_page(request, "sign_in_confirm.html", portal, email=email, link_token=token)


async def use_link(request: PageRequest) -> Response:
    portal = await get_portal(request)
    _check_links_are_sent(request)
    token = request.form.get("token")[:200]
    user = await email_links.use_link(request.work, portal.bucket, token=token, visitor=request.token)
    _give_back_link(request, user)
    return await begin_session(request, portal, user, request.base)


def _give_back_link(request: PageRequest, user: EndUser) -> None:
    email = user.email or ""
    request.counts(LINKS).give_back(request.attempt(email), email)


async def begin_session(request: PageRequest, portal: DeveloperPortal, user: EndUser, url: str) -> Response:
    """Accepts what the user is invited to, and signs in."""
    actor = user.to_actor()
    await self_serve.accept_invites(replace(request.work, actor=actor), portal.bucket)
    bucket_number = portal.bucket.number
    who = SignedIn(user.connection, bucket_number=bucket_number, sub=user.sub, email=user.email, issuer=user.issuer)
    return await request.sign_in(who, url, actor)


async def _show_sign_in(request: PageRequest, portal: DeveloperPortal, form: Form, *, status: int = 200) -> Response:
    next = quote(form.get("next"), safe="")
    return await render_page(
        request,
        "sign_in.html",
        portal,
        status=status,
        form=form,
        provider_url=f"{request.base}/sign-in/oidc?next={next}" if _has_provider(request) else "",
        has_ended=request.query("ended"),
        has_left=request.query("left"),
    )


async def _show_check_your_email(request: PageRequest, portal: DeveloperPortal, *, status: int = 200) -> Response:
    email = request.form.get("email")
    shown = email.strip().lower() if text.is_email(email.strip()) else ""
    minutes = int(email_links.LINK_LIFE.total_seconds() // 60)
    return await render_page(
        request, "check_your_email.html", portal, status=status, form=request.form, email=shown, minutes=minutes
    )


def _has_provider(request: PageRequest) -> bool:
    end_users = request.services.end_users
    return end_users is not None and end_users.client is not None


def _check_links_are_sent(request: PageRequest) -> None:
    """Raises NotFound where users sign in with the identity provider."""
    if _has_provider(request):
        # One way in: else a mailbox alone would do where its owner is asked for a second factor.
        raise NotFound("This portal does not send sign-in links: sign in with the identity provider.")


async def _send(mailer: Mailer, portal_name: str, letter: Letter, url: str) -> None:
    minutes = int(email_links.LINK_LIFE.total_seconds() // 60)
    code = letter.code.reveal()
    words = (
        f"Use this link to sign in to {portal_name}. Open it in the browser in which you requested it:\n\n{url}\n\n"
        "If you read this on another device, type this code into the page that you left open:\n\n"
        f"    {code[:4]} {code[4:]}\n\n"
        f"They work once and expire in {minutes} minutes. Nobody will ever ask you for the code: type it into no other "
        "page. If you did not request it, you can ignore this e-mail.\n"
    )
    try:
        await mailer.send(to=letter.email, subject=f"Sign in to {portal_name}", text=words, sender_name=portal_name)
    except (MailNotSent, ValueError, asyncio.CancelledError) as error:
        log.warning("a sign-in link could not be sent: %s", type(error).__name__)


ROUTES = (
    GetRoute("/sign-in", sign_in_page, is_open=True),
    PostRoute("/sign-in", request_link, form=sign_in_page, is_open=True),
    PostRoute("/sign-in/code", use_code, form=sign_in_page, action="portal.sign-in", is_open=True),
    GetRoute("/sign-in/link", link_page, is_open=True),
    PostRoute("/sign-in/link", use_link, form=sign_in_page, action="portal.sign-in", is_open=True),
)
