"""Owns who acts: the caller of a unit of work with its rights, however it was authenticated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keywright.domain.permissions import Grantee, Permissions


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `sub` is the id of a management key or a user's subject; `connection` says how they came in."""

    sub: str
    kind: ActorKind
    grantee: Grantee
    email: str | None = None
    connection: str | None = None
    issuer: str | None = None
    """Who names an end user or a person of the team `sub`: the identity provider, or EMAIL_LINK_ISSUER."""
    description: str | None = None
    expires_at: datetime | None = None
    """When the management key that acts ends."""
    owns_buckets: bool = True
    """Whether write access to a bucket reaches the bucket itself, and not only its consumers and their keys."""
    account_ids: tuple[str, ...] = ()
    """The accounts in which somebody has a role, and acts in one of them; empty for whoever came in otherwise."""

    @property
    def holding(self) -> str:
        """What the actor's rights come from, as a refusal calls it."""
        return "Your role" if self.kind is ActorKind.USER else "This management key"


class ActorKind(StrEnum):
    SERVICE = "service"
    """A program that holds a management key."""
    USER = "user"
    SYSTEM = "system"
    """This deployment itself: bootstrap and maintenance."""
    ANONYMOUS = "anonymous"


EMAIL_LINK_SUBJECT = "email-link|"
"""What the subject of a user begins with whom no identity provider vouched for: an e-mail link did."""

EMAIL_LINK_ISSUER = "email-link"
"""Who names these users. No provider can be called so: an issuer is a web address."""

NOBODY = Actor("anonymous", ActorKind.ANONYMOUS, Grantee("", Permissions()))
SYSTEM = Actor("system", ActorKind.SYSTEM, Grantee("", Permissions(), is_root=True))
