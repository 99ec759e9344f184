"""Owns whom a request comes from, as an application sees it (`request.user`, `request.auth`), and whose key ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from keywright.domain import models
from keywright.domain.powers import NO_POWERS, Powers, is_granted, list_granted
from keywright.domain.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from keywright.domain.limit_states import LimitState
    from keywright.domain.verdict import KeyRecord


UNTOLD = Powers(scopes=Scopes(()))
"""A key's powers where its source can't tell them: what it is good for is not known, so it is good for nothing."""


class User:
    """The consumer whose key the request has shown: `sub` is its name, `data` its metadata."""

    __slots__ = ("_data", "_metadata", "_powers", "consumer_id", "key_id", "limits", "reservation", "sub")

    is_authenticated: ClassVar[bool] = True

    def __init__(
        self,
        sub: str,
        metadata: bytes,
        consumer_id: str,
        key_id: str,
        powers: tuple[Powers | None, Powers | None] = (None, None),
        limits: tuple[LimitState, ...] = (),
    ) -> None:
        """`powers` are those of the key, and of the consumer; `limits` is how those stand that hold for the key."""
        self.sub = sub
        self.consumer_id = consumer_id
        self.key_id = key_id
        self._metadata = metadata
        self._data: dict[str, Any] | None = None
        self._powers = powers
        self.limits = limits
        self.reservation: str | None = None
        """By which is settled what was reserved for this request."""

    @property
    def data(self) -> dict[str, Any]:
        """Decoded when it is asked for: it takes as long as the validation."""
        if self._data is None:
            self._data = json.loads(self._metadata)
        return self._data

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the key is good for, in order: what is granted to the consumer, cut with what the key has itself."""
        key, consumer = self._powers
        return () if consumer is None else tuple(list_granted(key or NO_POWERS, consumer))

    def has_scopes(self, *scopes: str) -> bool:
        """Whether the key is good for all of these, as a route that demands them would find."""
        key, consumer = self._powers
        return not scopes or is_granted(key or NO_POWERS, consumer or NO_POWERS, scopes)

    @property
    def key_metadata(self) -> dict[str, Any]:
        """The key's own metadata, decoded anew each time it is asked for."""
        key = self._powers[0]
        return {} if key is None or key.metadata is None else json.loads(key.metadata)

    # Starlette's BaseUser.
    @property
    def identity(self) -> str:
        return self.sub

    @property
    def display_name(self) -> str:
        return self.sub

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Its parts by name, so that `dict(user)` is what an API tells of it."""
        yield "sub", self.sub
        yield "data", self.data
        yield "consumer_id", self.consumer_id
        yield "key_id", self.key_id

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """What FastAPI returns and describes where a route's value is a user."""
        from pydantic_core import core_schema

        text = core_schema.str_schema()
        data = core_schema.dict_schema(text, core_schema.any_schema())
        parts = {"sub": text, "data": data, "consumer_id": text, "key_id": text}
        fields = {name: core_schema.typed_dict_field(part, required=True) for name, part in parts.items()}
        told = core_schema.typed_dict_schema(fields, ref=f"{cls.__module__}.{cls.__qualname__}", cls_name="User")
        form = core_schema.plain_serializer_function_ser_schema(dict, return_schema=told)
        # FastAPI up to 0.101 describes what it would take, where later ones describe what they give.
        return core_schema.json_or_python_schema(told, core_schema.is_instance_schema(cls), serialization=form)

    def __str__(self) -> str:
        return self.sub

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sub={self.sub!r}, consumer_id={self.consumer_id!r}, key_id={self.key_id!r})"


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody: the path is exempt, or requests without a good key are let through. `code` says why there is nobody.

    It is `EXEMPT`, or what was wrong: `MISSING`, `AMBIGUOUS`, `MALFORMED`, `UNKNOWN`, `DISABLED`, `EXPIRED`.
    """

    code: str
    sub: None = None
    data: dict[str, Any] = field(default_factory=dict)
    consumer_id: None = None
    key_id: None = None
    scopes: tuple[str, ...] = ()
    key_metadata: dict[str, Any] = field(default_factory=dict)
    reservation: None = None

    is_authenticated: ClassVar[bool] = False
    identity: ClassVar[str] = ""
    display_name: ClassVar[str] = ""

    def has_scopes(self, *scopes: str) -> bool:
        """Nobody is good for nothing."""
        return False

    def __str__(self) -> str:
        return f"nobody ({self.code})"


@dataclass(frozen=True, slots=True)
class Ended:
    """Keys that are refused from now on: these of a consumer, or all of it, or all in the bucket. None stands for all.

    All three are None where nobody knows what has ended: the replica was filled anew, or was looked at too seldom.
    """

    bucket_name: str | None = None
    consumer_id: str | None = None
    key_ids: frozenset[str] | None = None

    def concerns(self, user: User | Anonymous, bucket_name: str | None = None) -> bool:
        """Whether the key by which this user came in is among them, or may be. An app with policies for several
        buckets says for which of them.
        """
        if user.key_id is None:
            return False
        if bucket_name is not None and self.bucket_name is not None and bucket_name != self.bucket_name:
            return False
        if self.consumer_id is not None and user.consumer_id != self.consumer_id:
            return False
        return self.key_ids is None or user.key_id in self.key_ids


class Credential(NamedTuple):
    """The key by which the request was authenticated. `scopes` is what Starlette's `requires` looks at."""

    key_id: str | None
    expires_at: datetime | None
    scopes: tuple[str, ...]


NO_CREDENTIAL = Credential(None, None, ())
_AUTHENTICATED = ("authenticated",)


def credential_of(key: KeyRecord) -> Credential:
    expires_at = None if key.expires_at is None else models.from_millis(key.expires_at)
    return Credential(key.key_id, expires_at, _AUTHENTICATED)
