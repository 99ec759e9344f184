"""Owns the mail that tells somebody of an invite to look after a consumer's keys.

It leaves once the invite is committed. A mail that can't be sent takes nothing back: whoever invites is told so, with
the address of the portal to hand over themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from keywright.domain.models import Bucket
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.branding import rules as branding
from keywright.origin.mail import Mailer, MailNotSent
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import RateLimit

SEND_SECONDS = 10.0
"""For how long a page waits for the mail server."""


async def send_invites(request: PageRequest, bucket: Bucket, emails: Sequence[str], rate_limit: RateLimit) -> None:
    """Has those who were just invited told of it. Raises TooManyRequests, which takes the invites back."""
    for _ in emails:
        request.limit(rate_limit, request.work.actor.sub)
    if not emails:
        return
    if not bucket.self_serve.enabled:
        request.flash("No e-mail was sent, because self-serve is off for this bucket.", is_good=False)
        return
    mailer = request.services.mailer
    url = f"{request.services.public_url}/portal/{quote(bucket.name)}"
    if mailer is None or not mailer.has_server:
        text = f"No e-mail was sent, because no mail server is configured. Share this link yourself: {url}"
        request.flash(text, is_good=False)
        return
    name = (await branding.of_bucket(request.work, bucket)).name or bucket.name
    actor = request.work.actor

    async def send() -> tuple[str, bool]:
        are_sent = await asyncio.gather(*(_send(mailer, email, name, url, actor) for email in emails))
        lost = [email for email, is_sent in zip(emails, are_sent, strict=True) if not is_sent]
        if not lost:
            return "Invite sent.", True
        whom = lost[0] if len(lost) == 1 else f"{len(lost)} of {len(emails)} addresses"
        return f"The e-mail to {whom} could not be sent. Share this link yourself: {url}", False

    request.after_commit = send


async def _send(mailer: Mailer, email: str, portal_name: str, url: str, actor: Actor) -> bool:
    # No word of the consumer: what users call it is theirs to choose, and this mail goes to strangers in our name.
    by = f"{actor.email} has invited you" if actor.kind is ActorKind.USER and actor.email else "You have been invited"
    text = (
        f"{by} to manage API keys for {portal_name}.\n\nSign in with this address ({email}) to get started:\n\n"
        f"{url}\n\nIf you did not expect this invite, you can ignore this e-mail.\n"
    )
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await mailer.send(
                to=email, subject=f"You have been invited to {portal_name}", text=text, sender_name=portal_name
            )
    except (MailNotSent, ValueError, TimeoutError):
        return False
    return True
