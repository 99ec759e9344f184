"""Rules of signing in by e-mail: a link counts once, for a quarter of an hour, in the browser that asked for it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import timedelta

from keywright.domain.keyformat import Digester, Secret
from keywright.domain.models import Bucket
from keywright.domain.problems import BadRequest
from keywright.domain.text import is_email
from keywright.origin.auth import email_link_store as rows
from keywright.origin.auth import sessions
from keywright.origin.auth.end_users import EndUser
from keywright.origin.pipeline.unit_of_work import UnitOfWork

LINK_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Letter:
    """A link on its way: to whom, and the token that it carries."""

    email: str
    token: Secret


async def request_link(work: UnitOfWork, bucket: Bucket, *, email: str, visitor: str) -> Letter | None:
    """A link for this address, bound to a visitor; None for one that has no business here.

    What the visitor is told must be the same for both, else anybody could find out who is a customer.
    """
    email = email.lower()
    if not (bucket.self_serve.create_consumers or await rows.is_known(work.tx, bucket, email)):
        return None
    token = sessions.new_token(work.dependencies.random_bytes)
    await rows.insert(
        work.tx,
        bucket,
        digest=_digest(work.dependencies.digester, "link", token.reveal()),
        visitor_digest=_digest(work.dependencies.digester, "visitor", visitor),
        email=email,
        ends_at=work.now + LINK_LIFE,
        now=work.now,
    )
    return Letter(email, token)


async def find_address(work: UnitOfWork, bucket: Bucket, *, token: str, visitor: str) -> str:
    """Whom a link would sign in. Raises BadRequest, with the same words for every link that is no good."""
    row = await rows.find(work.tx, bucket, _digest(work.dependencies.digester, "link", token))
    # One that was sent by an older Keywright may name an address that is none any more.
    if row is None or row.ends_at <= work.now or not is_email(row.email):
        raise BadRequest("This link has been used or has expired. Request a new one.")
    if not hmac.compare_digest(bytes(row.visitor_digest), _digest(work.dependencies.digester, "visitor", visitor)):
        raise BadRequest("Open this link in the browser in which you requested it, or request a new one here.")
    email: str = row.email
    return email


async def use_link(work: UnitOfWork, bucket: Bucket, *, token: str, visitor: str) -> EndUser:
    """Who has signed in; the link is used up. Raises BadRequest."""
    email = await find_address(work, bucket, token=token, visitor=visitor)
    if not await rows.take(work.tx, _digest(work.dependencies.digester, "link", token)):
        raise BadRequest("This link has been used or has expired. Request a new one.")
    return EndUser.of_link(email)


def _digest(digester: Digester, kind: str, token: str) -> bytes:
    # Apart from the digests of keys and sessions: none of them passes for another.
    return digester.digest(f"keywright sign-in {kind}\n{token}")
