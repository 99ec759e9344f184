"""Owns the shapes of keys: how they are shown, and what a caller says of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from keywright.domain import keyformat
from keywright.domain.keyformat import MAX_LENGTH, Secret
from keywright.domain.models import DisabledBy, Key, to_iso
from keywright.origin.keys import rules
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.openapi.bodies import Body, repeats_all
from keywright.origin.openapi.fields import (
    ABSENT,
    AllowedIps,
    AllowedIpsInput,
    CustomKey,
    Description,
    Metadata,
    MetadataInput,
    Moment,
    MomentInput,
    Scopes,
    ScopesInput,
    Shape,
    Tags,
    TagsInput,
    parse_moment,
    without_default,
)
from keywright.origin.openapi.limits import RateLimitShape, RateLimitsInput, rate_limits_of, show_rate_limits
from keywright.origin.pipeline.unit_of_work import UnitOfWork

READ_ONLY = (*Body.read_only, "disabledBy", "lastUsedOn", "lastUsedRegion", "lastUsedAddress")


class KeyFormat(StrEnum):
    """How keys are shown."""

    NONE = "none"
    VISIBLE = "visible"
    MASKED = "masked"


class ManagedKeyShape(Shape):
    """A credential of a consumer, as those see it who manage the consumer."""

    id: str = Field(examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])
    description: str | None = Field(examples=["My first API Key"])
    created_on: Moment
    updated_on: Moment
    expires_on: Moment | None = Field(description="The key is good until, and not including, this moment.")
    enabled: bool = Field(description="False for a key that is switched off.")
    disabled_by: DisabledBy | None = Field(
        description="Who switched it off, null for nobody: no manager switches on what the provider switched off.",
        examples=[None],
    )
    scopes: Scopes | None = Field(
        description="What it is good for, of what its consumer has; null is all of that, `[]` nothing."
    )
    allowed_ips: AllowedIps | None = Field(description="From where it may be used; null is from everywhere.")
    last_used_on: Moment | None = Field(
        description="When it was last found `VALID`; null for never, as far as edges have told.",
        examples=["2027-01-31T12:00:00.000Z"],
    )
    key: str = Field(
        default="",
        description="The key: whole when it was just made or `visible` was asked for, else its last characters.",
        examples=["kwak_d67b7e241bb948758f415b79aa8ec822_2efb7009"],
        json_schema_extra=without_default,
    )


class KeyShape(ManagedKeyShape):
    """A credential of a consumer."""

    metadata: Metadata
    tags: Tags
    last_used_region: str | None = Field(
        description="The region of the edge that found it `VALID` then; null where the edge has none.", examples=["eu"]
    )
    rate_limits: list[RateLimitShape] | None = Field(
        description="How often it may be used, beside what its consumer is limited to; null and `[]` are no more.",
        examples=[None],
    )
    last_used_address: str | None = Field(
        description="From which network (a /24 or /48) it was used then, where the bucket records that and the edge "
        "knew it.",
        examples=["192.0.2.0/24"],
    )


class KeyCreate(Body):
    """A new key."""

    read_only = READ_ONLY

    description: Description | None = Field(default=None, examples=["My first API Key"])
    expires_on: MomentInput | None = Field(
        default=None, description="When the key ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )
    key: CustomKey = Field(
        default=ABSENT,
        description="An existing secret to bring along. Best left out.",
    )
    enabled: bool = Field(default=True, description="With false it is made switched off.")
    scopes: ScopesInput | None = Field(
        default=None,
        description="What it is good for, of what its consumer has; left out or null, all of that; `[]` is nothing.",
    )
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; from everywhere, if left out."
    )
    metadata: MetadataInput = Field(default={}, description="Of the key; a consumer has its own.")
    tags: TagsInput = Field(default={}, description="For management only.")
    rate_limits: RateLimitsInput | None = Field(
        default=None, description="How often it may be used, beside what its consumer is limited to."
    )

    def to_draft(self) -> KeyDraft:
        return KeyDraft(
            self.description,
            self.expires_on,
            self.key,
            enabled=self.enabled,
            scopes=self.scopes,
            allowed_ips=self.allowed_ips,
            metadata=self.metadata,
            tags=self.tags,
            rate_limits=rate_limits_of(self.rate_limits),
        )


class KeyUpdate(Body):
    """What is to change, each member as a whole; what is left out stays, `{}` empties tags or metadata."""

    read_only = READ_ONLY

    description: Description | None = Field(default=None, examples=["The key of the test server"])
    expires_on: MomentInput | None = Field(
        default=None, description="When the key ends; null is never.", examples=["2027-01-31T12:00:00.000Z"]
    )
    key: str = Field(
        default=ABSENT,
        max_length=MAX_LENGTH,
        description="May be sent back as it was read; it can't be changed.",
    )
    enabled: bool = Field(
        default=ABSENT,
        description="False switches it off, as by the provider; true switches it on, whoever switched it off.",
    )
    scopes: ScopesInput | None = Field(
        default=None, description="What it is good for, of what its consumer has; null is all of that, `[]` nothing."
    )
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; null is from everywhere."
    )
    metadata: MetadataInput = Field(default=ABSENT, description="Of the key; a consumer has its own.")
    tags: TagsInput = Field(default=ABSENT, description="For management only.")
    rate_limits: RateLimitsInput | None = Field(
        default=None,
        description="How often it may be used, beside what its consumer is limited to; null takes that back.",
    )


class RollKey(Body):
    """How long the present keys go on: `{}` ends them at once."""

    read_only = ()

    expires_on: MomentInput = Field(
        default=ABSENT,
        description="When the present keys end, which lies ahead. No key's life is made longer.",
        examples=["2027-01-31T12:00:00.000Z"],
    )


def show(key: Key, format: KeyFormat, secrets: Mapping[str, Secret]) -> KeyShape:
    """The shape of a key; a key whose secret is at hand in `secrets` is shown whole."""
    shown = {**_shown(key, format, secrets), "metadata": dict(key.metadata), "tags": dict(key.tags)}
    shown["rate_limits"] = show_rate_limits(key.rate_limits)
    shown["last_used_region"] = key.last_used_region or None
    shown["last_used_address"] = key.last_used_network
    return KeyShape.model_construct(**shown)


def show_managed(key: Key, format: KeyFormat, secrets: Mapping[str, Secret]) -> ManagedKeyShape:
    """The same for those who manage the consumer, to whom metadata and tags are not told."""
    return ManagedKeyShape.model_construct(**_shown(key, format, secrets))


def _shown(key: Key, format: KeyFormat, secrets: Mapping[str, Secret]) -> dict[str, Any]:
    shown = {
        "id": key.id,
        "description": key.description,
        "created_on": key.created_at,
        "updated_on": key.updated_at,
        "expires_on": key.expires_at,
        "enabled": key.enabled,
        "disabled_by": key.disabled_by,
        "scopes": None if key.scopes is None else list(key.scopes),
        "allowed_ips": None if key.allowed_ips is None else list(key.allowed_ips),
        "last_used_on": key.last_used_at,
    }
    if format is not KeyFormat.NONE:
        secret = secrets.get(key.id)
        shown["key"] = secret.reveal() if secret is not None else keyformat.mask(key.hint)
    return shown


def repeats_keys(work: UnitOfWork, sent: Any, keys: Sequence[Key]) -> bool:
    """Whether a list holds all of these keys as they were read: whole, masked or without `key`."""
    items = sent if isinstance(sent, list) else [None]
    texts = {
        str(one.get("id")): str(one["key"]) for one in items if isinstance(one, Mapping) and _is_text(one.get("key"))
    }
    shown = []
    for key in keys:
        read = show(key, KeyFormat.NONE, {}).model_dump(mode="json", by_alias=True, exclude_unset=True)
        text = texts.get(key.id, "")
        shown.append({**read, "key": text} if rules.is_value_of(work, key, text) else read)
    return repeats_all(_with_moments(sent), shown)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _with_moments(sent: Any) -> Any:
    """The same with every end written as we write it: a client may have taken it apart and put it together again."""
    if not isinstance(sent, list):
        return sent
    return [_with_moment(one) if isinstance(one, Mapping) and _is_text(one.get("expiresOn")) else one for one in sent]


def _with_moment(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return {**sent, "expiresOn": to_iso(parse_moment(sent["expiresOn"]))}
    except ValueError:
        return sent
