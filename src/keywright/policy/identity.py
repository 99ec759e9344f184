"""Owns whom a request comes from, as an application sees it: `request.user` and `request.auth`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from keywright.core import models

if TYPE_CHECKING:
    from datetime import datetime

    from keywright.core.verdict import ConsumerRecord, KeyRecord


@dataclass(frozen=True, slots=True)
class User:
    """The consumer whose key the request has shown: `sub` is its name, `data` its metadata."""

    sub: str
    data: dict[str, Any]
    consumer_id: str
    key_id: str

    is_authenticated: ClassVar[bool] = True

    # Starlette's BaseUser.
    @property
    def identity(self) -> str:
        return self.sub

    @property
    def display_name(self) -> str:
        return self.sub


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody: the path is exempt, or requests without a good key are let through. `code` says why there is nobody.

    It is `EXEMPT`, or what was wrong: `MISSING`, `AMBIGUOUS`, `MALFORMED`, `UNKNOWN`, `EXPIRED`.
    """

    code: str
    sub: None = None
    data: dict[str, Any] = field(default_factory=dict)
    consumer_id: None = None
    key_id: None = None

    is_authenticated: ClassVar[bool] = False
    identity: ClassVar[str] = ""
    display_name: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """The key by which the request was authenticated. `scopes` is what Starlette's `requires` looks at."""

    key_id: str | None
    expires_at: datetime | None
    scopes: tuple[str, ...]


NO_CREDENTIAL = Credential(None, None, ())
_AUTHENTICATED = ("authenticated",)


def user_of(key: KeyRecord, consumer: ConsumerRecord) -> User:
    return User(consumer.name, json.loads(consumer.metadata), consumer.consumer_id, key.key_id)


def credential_of(key: KeyRecord) -> Credential:
    expires_at = None if key.expires_at is None else models.from_millis(key.expires_at)
    return Credential(key.key_id, expires_at, _AUTHENTICATED)
