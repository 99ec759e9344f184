"""Owns who was let in a moment ago: with which key, from where, for what. It spares a request with a body two reads.

It only says whose body is read. In the transaction that acts the key is judged anew and the rules ask for rights anew,
so a key that was revoked since does nothing: it has at most a body read for a second longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from keywright.origin.auth.actors import Actor
    from keywright.origin.pipeline.body import Admission

SECONDS = 1.0
MOST = 10_000
HARMLESS = frozenset({"key.create", "key.create-bulk", "consumer.create"})
"""Changes that take nobody's rights away. After any other, in this process, all are looked at again."""


class Entrance(NamedTuple):
    """A key by its digest, the address that it came from, and what it was let in for."""

    digest: bytes
    address: str
    admission: Admission
    place: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, digest: bytes, address: str, admission: Admission, path: Mapping[str, str]) -> Entrance:
        return cls(digest, address, admission, tuple(sorted(path.items())))


@dataclass(frozen=True, slots=True)
class Known:
    """Who came in, until when that holds, and the account in whose log the attempt stands."""

    actor: Actor
    until: datetime
    account_id: str | None


@dataclass(slots=True)
class LetIn:
    """In this process."""

    _known: dict[Entrance, Known] = field(default_factory=dict)

    def find(self, entrance: Entrance, now: datetime) -> Known | None:
        known = self._known.get(entrance)
        # A clock that was set back makes nothing last longer.
        if known is None or not known.until - timedelta(seconds=SECONDS) <= now < known.until:
            return None
        return None if known.actor.expires_at is not None and known.actor.expires_at <= now else known

    def note(self, entrance: Entrance, actor: Actor, account_id: str | None, now: datetime) -> None:
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[entrance] = Known(actor, now + timedelta(seconds=SECONDS), account_id)

    def forget_after(self, action: str | None) -> None:
        """To be called after each change."""
        if action not in HARMLESS:
            self._known.clear()
