"""Rules of the portals' sessions: how they begin, how long they last, who acts in one, and that a form counts once.

A session is known by a random token that stands in a cookie; the record has its digest only. It ends after a while of
disuse, at the latest when its whole time is over, and at once with the management key, the bucket or the
identity provider that it stands on.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester, Secret
from keywright.domain.permissions import Grantee
from keywright.domain.roles import Held, Role, least
from keywright.origin.accounts import store as account_rows
from keywright.origin.auth import bearer
from keywright.origin.auth import session_store as rows
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.auth.oidc.authorization import Client
from keywright.origin.auth.session_store import Session
from keywright.origin.db.engine import MissingReference
from keywright.origin.db.transaction import Transaction
from keywright.origin.pipeline.unit_of_work import Dependencies

__all__ = [
    "PROVIDER", "Session", "SignedIn", "Team", "claim_form", "end", "find", "find_member", "is_to_be_touched",
    "new_token", "note_location", "resume", "sign_in", "start", "touch",
]  # fmt: skip

TOKEN_BYTES = 32
PROVIDER = "oidc"
"""How somebody came in whom the identity provider vouches for."""
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
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """The provider's own people: how they sign in to the admin portal, and what each may do there, by e-mail."""

    client: Client
    members: Mapping[str, Held]


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
        issuer=who.issuer,
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


async def sign_in(
    tx: Transaction, secret: str, dependencies: Dependencies, *, address: str
) -> tuple[Actor, SignedIn] | None:
    """Who a management key signs in to a portal, and what the session is to stand on; None if it is no good."""
    if not keyformat.is_valid_custom(secret):
        return None
    now = dependencies.clock()
    found = await bearer.find_by_secret(tx, secret, dependencies.digester, now, address=address, is_held=True)
    return None if found is None else (found[0], SignedIn(found[0].connection or "", key_number=found[1].number))


async def resume(
    tx: Transaction,
    portal: str,
    token: str,
    dependencies: Dependencies,
    team: Team | None,
    *,
    address: str,
    account_name: str | None = None,
    is_held: bool = False,
) -> tuple[Session, Actor] | None:
    """The session of a cookie and who acts in it; None if it is over, or the key or the role that it stands on, and
    where that key may not be used from this address.

    Whoever has roles in several accounts acts in the one of that name.
    """
    session = await find(tx, dependencies, portal, token)
    if session is None:
        return None
    if session.key_number is None:
        if team is None or session.issuer != team.client.provider.issuer:
            # It ends with its provider.
            return None
        # Asked anew each time: a role that was changed or taken away is so from the next request on.
        member = await find_member(tx, team, session.sub, session.email, account_name)
        return None if member is None else (session, member)
    now = dependencies.clock()
    found = await bearer.find_by_number(tx, session.key_number, now, address=address, is_held=is_held)
    return None if found is None else (session, found[0])


async def find_member(
    tx: Transaction, team: Team | None, sub: str | None, email: str | None, account_name: str | None = None
) -> Actor | None:
    """The actor behind a verified e-mail address, if it has a role in an account that there is.

    Of several accounts the one of that name, else the first one that the setting names.
    """
    held = team.members.get(email) if team is not None and email is not None else None
    if team is None or held is None or sub is None:
        return None
    roles: dict[str, Role] = {}
    chosen = None
    for name, role in held.items():
        account = await (account_rows.find_first(tx) if name is None else account_rows.find_account(tx, name))
        if account is None:
            continue
        # The account that the deployment was started with may be named as well: two roles in it are the lesser one.
        roles[account.id] = least({role, roles.get(account.id, role)})
        if chosen is None or account.name == account_name:
            chosen = account.id
    if chosen is None:
        return None
    return Actor(
        sub,
        ActorKind.USER,
        Grantee(chosen, roles[chosen].permissions),
        email=email,
        connection=PROVIDER,
        issuer=team.client.provider.issuer,
        owns_buckets=roles[chosen] is Role.ADMIN,
        account_ids=tuple(roles),
    )


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
