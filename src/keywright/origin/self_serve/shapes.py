"""What the Self-serve API takes and gives: the shapes of both kinds of front end, of one and the same consumer."""

from __future__ import annotations

from pydantic import Field

from keywright.origin.consumers.rules import ConsumerView
from keywright.origin.keys.api import KeyFormat, KeyShape, show
from keywright.origin.openapi.bodies import Body, RepeatedMember
from keywright.origin.openapi.fields import ABSENT, Description, Moment, MomentInput, Shape


class MyConsumer(Shape):
    """A consumer that the user manages, with its keys, newest first."""

    name: str = Field(examples=["my-consumer"])
    description: str | None = Field(examples=["The test server"])
    created_on: Moment
    api_keys: list[KeyShape]


class MyConsumers(Shape):
    """The consumers that the user manages, newest first."""

    data: list[MyConsumer]


class MyConsumerGiven(Body):
    """How the user calls a consumer."""

    description: Description | None = Field(default=None, examples=["The test server"])


class MyConsumerUpdate(MyConsumerGiven):
    """How the user calls a consumer from now on."""

    name: RepeatedMember = ABSENT
    api_keys: RepeatedMember = ABSENT


class MyKeyCreate(Body):
    """A new key."""

    description: Description | None = Field(default=None, examples=["The test server"])
    expires_on: MomentInput | None = Field(default=None, description="When the key ends; never, if left out.")


class ClientKeys(Shape):
    """Keys, newest first."""

    data: list[KeyShape]


class ClientConsumer(Shape):
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


class ClientConsumerUpdate(Body):
    """How the user calls a consumer."""

    label: Description | None = Field(default=None, examples=["The test server"])
    subject: RepeatedMember = ABSENT
    expires_on: RepeatedMember = ABSENT
    api_keys: RepeatedMember = ABSENT


def show_consumer(view: ConsumerView) -> MyConsumer:
    consumer = view.consumer
    return MyConsumer(
        name=consumer.name,
        description=consumer.description,
        created_on=consumer.created_at,
        api_keys=_keys(view),
    )


def show_client_consumer(view: ConsumerView) -> ClientConsumer:
    consumer = view.consumer
    return ClientConsumer(
        id=consumer.id,
        label=consumer.description,
        subject=consumer.name,
        created_on=consumer.created_at,
        updated_on=consumer.updated_at,
        expires_on=None,
        api_keys=ClientKeys(data=_keys(view)),
    )


def _keys(view: ConsumerView) -> list[KeyShape]:
    return [show(key, KeyFormat.VISIBLE, view.secrets) for key in view.keys or ()]
