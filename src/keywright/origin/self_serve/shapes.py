"""What the Self-serve API takes and gives: the shapes of both kinds of front end, of one and the same consumer."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from keywright.domain.models import Bucket
from keywright.origin.consumers.rules import ConsumerView
from keywright.origin.keys.powers import granted_to, quotas_of, rate_limits_of
from keywright.origin.keys.shapes import READ_ONLY, KeyFormat, ManagedKeyShape, show_managed
from keywright.origin.openapi.bodies import Body, RepeatedMember
from keywright.origin.openapi.fields import (
    ABSENT,
    AllowedIps,
    AllowedIpsInput,
    Description,
    Moment,
    MomentInput,
    Scopes,
    ScopesInput,
    Shape,
)
from keywright.origin.openapi.limits import QuotaShape, RateLimitShape, show_quotas, show_rate_limits


class Granted(Shape):
    """What a consumer's keys may do, as the provider says; a key of its own may do less."""

    enabled: bool = Field(description="False where the provider switched it off, and all its keys with it.")
    granted_scopes: Scopes = Field(description="What its keys are good for.")
    allowed_ips: AllowedIps | None = Field(description="From where its keys may be used; null is from everywhere.")
    plan: str | None = Field(description="The name of its plan, null for none.", examples=["gold"])
    rate_limits: list[RateLimitShape] = Field(
        description="How often its keys may be used, all together: as the provider says of it, or its plan."
    )
    quotas: list[QuotaShape] = Field(
        description="How much its keys may use in a period, all together: as the provider says of it, or its plan."
    )


class MyConsumer(Granted):
    """A consumer that the user manages, with its keys, newest first."""

    name: str = Field(examples=["my-consumer"])
    description: str | None = Field(examples=["The test server"])
    created_on: Moment
    api_keys: list[ManagedKeyShape]


class MyConsumers(Shape):
    """The consumers that the user manages, newest first."""

    data: list[MyConsumer]


class MyConsumerGiven(Body):
    """How the user calls a consumer."""

    description: Description | None = Field(default=None, examples=["The test server"])


class GrantedAgain(Body):
    """What is granted, which an update may only repeat."""

    enabled: RepeatedMember = ABSENT
    granted_scopes: RepeatedMember = ABSENT
    allowed_ips: RepeatedMember = ABSENT
    plan: RepeatedMember = ABSENT
    rate_limits: RepeatedMember = ABSENT
    quotas: RepeatedMember = ABSENT


class MyConsumerUpdate(MyConsumerGiven, GrantedAgain):
    """How the user calls a consumer from now on."""

    name: RepeatedMember = ABSENT
    api_keys: RepeatedMember = ABSENT


class MyKeyCreate(Body):
    """A new key."""

    description: Description | None = Field(default=None, examples=["The test server"])
    expires_on: MomentInput | None = Field(default=None, description="When the key ends; never, if left out.")


class MyKeyUpdate(Body):
    """What is to change; what is left out stays."""

    read_only = READ_ONLY

    enabled: bool = Field(
        default=ABSENT, description="False switches it off; true switches on what no provider switched off."
    )
    scopes: ScopesInput | None = Field(
        default=None, description="What it is good for, of what is granted; null is all of that, `[]` nothing."
    )
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; null is from everywhere."
    )
    description: RepeatedMember = ABSENT
    expires_on: RepeatedMember = ABSENT
    key: RepeatedMember = ABSENT


class ClientKeys(Shape):
    """Keys, newest first."""

    data: list[ManagedKeyShape]


class ClientConsumer(Granted):
    """A consumer that the user manages. `subject` is its name, `label` how the user calls it."""

    id: str = Field(examples=["csmr_BvZQ2wPZuZRmpK1dQsgNNZ7G"])
    label: str | None = Field(examples=["The test server"])
    subject: str = Field(examples=["my-consumer"])
    created_on: Moment
    updated_on: Moment
    expires_on: Moment | None = Field(description="Always null: keys end, consumers do not.")
    api_keys: ClientKeys


class ClientConsumers(Shape):
    """The consumers that the user manages, newest first."""

    data: list[ClientConsumer]


class ClientConsumerUpdate(GrantedAgain):
    """How the user calls a consumer."""

    label: Description | None = Field(default=None, examples=["The test server"])
    subject: RepeatedMember = ABSENT
    expires_on: RepeatedMember = ABSENT
    api_keys: RepeatedMember = ABSENT


def show_consumer(bucket: Bucket, view: ConsumerView) -> MyConsumer:
    consumer = view.consumer
    return MyConsumer(
        **_granted(bucket, view),
        name=consumer.name,
        description=consumer.description,
        created_on=consumer.created_at,
        api_keys=_keys(view),
    )


def show_client_consumer(bucket: Bucket, view: ConsumerView) -> ClientConsumer:
    consumer = view.consumer
    return ClientConsumer(
        **_granted(bucket, view),
        id=consumer.id,
        label=consumer.description,
        subject=consumer.name,
        created_on=consumer.created_at,
        updated_on=consumer.updated_at,
        expires_on=None,
        api_keys=ClientKeys(data=_keys(view)),
    )


def repeats_granted(body: GrantedAgain, bucket: Bucket, view: ConsumerView) -> dict[str, bool]:
    """Whether each of these members says what is there."""
    read = Granted(**_granted(bucket, view)).model_dump(mode="json", by_alias=True)
    return {name: getattr(body, name) == read[field.alias or name] for name, field in Granted.model_fields.items()}


def _granted(bucket: Bucket, view: ConsumerView) -> dict[str, Any]:
    consumer = view.consumer
    return {
        "enabled": consumer.enabled,
        "granted_scopes": sorted(granted_to(bucket, consumer).names),
        "allowed_ips": None if consumer.allowed_ips is None else list(consumer.allowed_ips),
        "plan": None if consumer.plan is None else consumer.plan.name,
        "rate_limits": show_rate_limits(rate_limits_of(consumer)) or [],
        "quotas": show_quotas(quotas_of(consumer)) or [],
    }


def _keys(view: ConsumerView) -> list[ManagedKeyShape]:
    return [show_managed(key, KeyFormat.VISIBLE, view.secrets) for key in view.keys or ()]
