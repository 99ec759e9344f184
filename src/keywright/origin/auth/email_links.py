"""Rules of signing in by e-mail: a link counts once, for a quarter of an hour, in the browser that asked for it.

Beside the link stands a code for who reads mail on another device, to be typed into the page that asked for it. It
follows from the link under the pepper, so that no row tells it.
"""

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
CODE_DIGITS = 8
"""With so few tries a link, a year of guessing at one mailbox, at the rate that links are sent, finds one in 60."""
CODE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Letter:
    """A link on its way: to whom, the token that it carries, and the code beside it."""

    email: str
    token: Secret
    code: Secret


async def request_link(work: UnitOfWork, bucket: Bucket, *, email: str, visitor: str) -> Letter | None:
    """A link for this address, bound to a visitor; None for one that has no business here.

    What the visitor is told must be the same for both, else anybody could find out who is a customer.
    """
    email = email.lower()
    if not (bucket.self_serve.create_consumers or await rows.is_known(work.tx, bucket, email)):
        return None
    token = sessions.new_token(work.dependencies.random_bytes)
    digest = _digest(work.dependencies.digester, "link", token.reveal())
    await rows.insert(
        work.tx,
        bucket,
        digest=digest,
        visitor_digest=_digest(work.dependencies.digester, "visitor", visitor),
        email=email,
        ends_at=work.now + LINK_LIFE,
        now=work.now,
    )
    return Letter(email, token, Secret(_code_of(work.dependencies.digester, digest)))


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


@dataclass(frozen=True, slots=True)
class CodeJudged:
    """What came of a code. `has_link`: the visitor has an open link, whose code it was not."""

    user: EndUser | None
    has_link: bool


async def use_code(work: UnitOfWork, bucket: Bucket, *, code: str, visitor: str) -> CodeJudged:
    """Who has signed in by a code, which uses up its link. A wrong one is counted, which is to be committed."""
    digester = work.dependencies.digester
    # Counted before it is compared: of many tries at once none is free.
    links = await rows.count_try(
        work.tx, bucket, visitor_digest=_digest(digester, "visitor", visitor), now=work.now, most=CODE_TRIES
    )
    typed = "".join(character for character in code if character in "0123456789").encode()
    found = None
    for link in links:
        if hmac.compare_digest(_code_of(digester, bytes(link.digest)).encode(), typed):
            found = link
    if found is None or not is_email(found.email) or not await rows.take(work.tx, bytes(found.digest)):
        return CodeJudged(None, has_link=bool(links))
    return CodeJudged(EndUser.of_link(found.email), has_link=True)


def _code_of(digester: Digester, link_digest: bytes) -> str:
    number = int.from_bytes(_digest(digester, "code", link_digest.hex()), "big") % 10**CODE_DIGITS
    return f"{number:0{CODE_DIGITS}}"


def _digest(digester: Digester, kind: str, token: str) -> bytes:
    # Apart from the digests of keys and sessions: none of them passes for another.
    return digester.digest(f"keywright sign-in {kind}\n{token}")
