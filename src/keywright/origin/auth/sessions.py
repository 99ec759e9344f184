"""Rules of the portals' sessions: how they begin, how long they last, and that a form counts once.

A session is known by a random token that stands in a cookie; the record has its digest only. It ends after a while of
disuse, at the latest when its whole time is over, and at once with the management key or the bucket that it stands on.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from keywright.domain.keyformat import Digester, Secret
from keywright.origin.auth import session_store as rows
from keywright.origin.auth.session_store import Session
from keywright.origin.db.engine import MissingReference, Transaction
from keywright.origin.pipeline.unit_of_work import Dependencies

__all__ = ["Session", "SignedIn", "claim_form", "end", "find", "new_token", "note_location", "start", "touch"]

TOKEN_BYTES = 32
SEEN_EVERY = timedelta(minutes=1)
"""How precisely disuse is known: a page that is looked at writes no more often than this."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who has proved to be somebody: the holder of a management key, or a user by way of a `connection`."""

    connection: str
    key_number: int | None = None
    bucket_number: int | None = None
    sub: str | None = None
    email: str | None = None


def new_token(random_bytes: Callable[[int], bytes]) -> Secret:
    return Secret(base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode())


async def start(tx: Transaction, dependencies: Dependencies, portal: str, who: SignedIn) -> Secret:
    """A new session; the token for its cookie. Sessions that are over are cleared away."""
    now, limits = dependencies.clock(), dependencies.limits
    await rows.delete_ended(tx, now=now, unseen_since=now - limits.session_idle)
    token = new_token(dependencies.random_bytes)
    await rows.insert(
        tx,
        digest=_digest(dependencies.digester, token.reveal()),
        portal=portal,
        key_number=who.key_number,
        bucket_number=who.bucket_number,
        sub=who.sub,
        email=who.email,
        connection=who.connection,
        now=now,
        ends_at=now + limits.session_life,
    )
    return token


async def find(tx: Transaction, dependencies: Dependencies, portal: str, token: str) -> Session | None:
    """The session of a cookie's token, if it is one of this portal and has not ended."""
    session = await rows.find(tx, _digest(dependencies.digester, token))
    now = dependencies.clock()
    if session is None or session.portal != portal or session.ends_at <= now:
        return None
    return None if session.seen_at <= now - dependencies.limits.session_idle else session


def is_to_be_touched(session: Session, now: datetime) -> bool:
    return now - session.seen_at >= SEEN_EVERY


async def touch(tx: Transaction, session: Session, now: datetime) -> None:
    """It is in use."""
    await rows.set_seen(tx, session, now)


async def end(tx: Transaction, session: Session) -> None:
    await rows.delete(tx, session)


async def claim_form(tx: Transaction, session: Session, form: str) -> str | None:
    """None if the form is sent for the first time; where it led to, if it was sent before.

    The second of two that are sent at once waits for the first to be done.
    """
    try:
        if await rows.insert_form(tx, session, form, ""):
            return None
    except MissingReference:
        # Signed out in another tab, a moment ago; whoever needs the session finds that out.
        return None
    return await rows.find_form(tx, session, form) or ""


async def note_location(tx: Transaction, session: Session, form: str, location: str) -> None:
    """Where to lead whoever sends the form again."""
    await rows.set_form_location(tx, session, form, location)


def _digest(digester: Digester, token: str) -> bytes:
    # Apart from the digests of keys: a key that is put into a cookie finds nothing.
    return digester.digest(f"keywright session\n{token}")
