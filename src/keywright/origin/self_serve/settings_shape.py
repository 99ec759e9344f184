"""The shape of what end users may do in a bucket by themselves; a part of the bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from keywright.domain.models import DEFAULT_SELF_SERVE, SelfServe
from keywright.domain.unset import UNSET, Unset
from keywright.origin.buckets.rules import MAX_SELF_SERVE_COUNT
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import WITHOUT_FRACTION, Shape, without_default

Count = Annotated[int, Field(ge=1, le=MAX_SELF_SERVE_COUNT), WITHOUT_FRACTION]


class SelfServeShape(Shape):
    """What end users may do by themselves with the consumers that they manage."""

    enabled: bool = Field(description="Whether the Self-serve API and the developer portal know this bucket.")
    create_consumers: bool = Field(description="Whether a user may make consumers.")
    delete_consumers: bool = Field(description="Whether a manager may delete the consumer.")
    create_keys: bool = Field(description="Whether a manager may make further keys. Rolling is always allowed.")
    max_consumers: int = Field(description="How many consumers a user who makes one may have.", examples=[10])
    max_keys: int = Field(description="How many good keys a consumer may have when a manager makes one.", examples=[20])


class SelfServeUpdate(Body):
    """What is to change; what is left out stays."""

    read_only = ()

    enabled: bool = Field(
        default=True,
        description="Whether the Self-serve API and the developer portal know it.",
        json_schema_extra=without_default,
    )
    create_consumers: bool = Field(
        default=False, description="Whether a user may make consumers.", json_schema_extra=without_default
    )
    delete_consumers: bool = Field(
        default=True, description="Whether a manager may delete the consumer.", json_schema_extra=without_default
    )
    create_keys: bool = Field(
        default=True, description="Whether a manager may make further keys.", json_schema_extra=without_default
    )
    max_consumers: Count = Field(
        default=10, description="How many consumers a user who makes one may have.", json_schema_extra=without_default
    )
    max_keys: Count = Field(
        default=20, description="How many good keys a consumer may have.", json_schema_extra=without_default
    )


def show_self_serve(settings: SelfServe) -> SelfServeShape:
    return SelfServeShape(
        enabled=settings.enabled,
        create_consumers=settings.create_consumers,
        delete_consumers=settings.delete_consumers,
        create_keys=settings.create_keys,
        max_consumers=settings.max_consumers,
        max_keys=settings.max_keys,
    )


def members(update: SelfServeUpdate | Unset | None) -> dict[str, Any] | Unset | None:
    """The members that were given; UNSET where the whole was not, None where it was null."""
    if isinstance(update, Unset):
        return UNSET
    return None if update is None else _set_members(update)


def with_members(update: SelfServeUpdate | None) -> SelfServe:
    """The settings of a new bucket."""
    return DEFAULT_SELF_SERVE if update is None else replace(DEFAULT_SELF_SERVE, **_set_members(update))


def _set_members(update: SelfServeUpdate) -> dict[str, Any]:
    return {name: getattr(update, name) for name in update.model_fields_set}
