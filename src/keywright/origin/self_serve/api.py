"""The Self-serve API: what an end user's own browser may ask for, in the two shapes that front ends speak.

`/v1/self-serve/{bucketName}` names consumers by name, `/v2/client/{bucketName}` by id. Both show keys whole, since
their front ends reveal and copy from the list; in a bucket that keeps no keys there is only the mask to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from keywright.domain.models import Bucket, to_iso
from keywright.origin.consumers.rules import ConsumerView
from keywright.origin.keys.api import rolled
from keywright.origin.keys.shapes import KeyFormat, ManagedKeyShape, RollKey, repeats_keys, show_managed
from keywright.origin.openapi.bodies import check_repeated
from keywright.origin.openapi.fields import value_or_unset
from keywright.origin.openapi.parameters import PathBucket, PathConsumer, PathKey
from keywright.origin.openapi.problem_responses import problem_response, problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.query import wants_representation
from keywright.origin.pipeline.request import CurrentUnitOfWork, OriginRoute
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.self_serve import rules
from keywright.origin.self_serve.caller import EndUserCaller
from keywright.origin.self_serve.rules import ConsumerRef
from keywright.origin.self_serve.shapes import (
    ClientConsumer,
    ClientConsumers,
    ClientConsumerUpdate,
    MyConsumer,
    MyConsumerGiven,
    MyConsumers,
    MyConsumerUpdate,
    MyKeyCreate,
    MyKeyUpdate,
    repeats_granted,
    show_client_consumer,
    show_consumer,
)
from keywright.origin.usage import rules as usage
from keywright.origin.usage.api import CSV, AskedFormat, AskedOfManaged, UsageFormat, UsageShape, answer
from keywright.origin.usage.rules import Asked

BY_NAME = "/v1/self-serve/{bucketName}/consumers"
BY_ID = "/v2/client/{bucketName}/consumers"

PathConsumerId = Annotated[
    str,
    Path(
        alias="consumerId",
        description="The id of the consumer.",
        examples=["csmr_BvZQ2wPZuZRmpK1dQsgNNZ7G"],
        json_schema_extra={"pattern": "^csmr_[0-9A-Za-z]{24}$"},
    ),
]


class EndUserRoute(OriginRoute):
    """A route of the Self-serve API, below a bucket."""

    caller = EndUserCaller()


def _operation_id(route: APIRoute) -> str:
    return to_camel(route.endpoint.__name__)


def new_router() -> APIRouter:
    return APIRouter(
        tags=["Self-serve"],
        route_class=EndUserRoute,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )


router = new_router()

_REASONS = {
    401: ("No token was sent, or it is refused.", "The token is refused: it has expired."),
    403: ("The user's e-mail address is not verified, or the bucket's owner keeps this to themselves.", None),
    404: ("There is no such thing, or the user does not manage it.", "You manage no such consumer."),
    409: ("The user has as many of them as the bucket's owner allows.", None),
    503: ("The identity provider or the database can't be reached.", None),
}


def problems_of_users(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of the Developer API, in the words of users."""
    told = problems(401, *statuses)
    return {int(status): problem_response(int(status), *_REASONS.get(int(status), ())) for status in told}


NOTE: dict[str, Any] = {"security": [{"endUserToken": []}]}
_ROLLED: dict[int | str, dict[str, Any]] = {
    200: {"model": ManagedKeyShape, "description": "The new key, where `Prefer: return=representation` was sent."},
    **problems_of_users(403, 404, 413, 415),
}


@router.get(
    BY_NAME + "/my",
    name="self-serve.consumer.list",
    summary="List my consumers",
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def list_my_consumers(work: CurrentUnitOfWork, bucket: PathBucket) -> MyConsumers:
    """The consumers that the user manages, with their keys: whole, where the bucket keeps them."""
    found, views = await rules.list_consumers(work, bucket, with_secrets=True)
    return MyConsumers(data=[show_consumer(found, view) for view in views])


@router.post(
    BY_NAME + "/my",
    name="self-serve.consumer.create",
    summary="Create a consumer of mine",
    responses=problems_of_users(403, 404, 409, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_create)
async def create_my_consumer(work: CurrentUnitOfWork, bucket: PathBucket, body: MyConsumerGiven) -> MyConsumer:
    """A new consumer with its first key, where the bucket's owner allows it."""
    return show_consumer(*await rules.create_consumer(work, bucket, description=body.description))


@router.patch(
    BY_NAME + "/{consumerName}",
    name="self-serve.consumer.update",
    summary="Rename a consumer of mine",
    responses=problems_of_users(403, 404, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def update_my_consumer(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer, body: MyConsumerUpdate
) -> MyConsumer:
    """Changes the description; null empties it."""
    ref = ConsumerRef(bucket, name=consumer)
    if body.model_fields_set - {"description"}:
        found, view = await _reread(work, ref)
        check_repeated(
            body,
            name=body.name == view.consumer.name,
            api_keys=repeats_keys(work, body.api_keys, view.keys or ()),
            **repeats_granted(body, found, view),
        )
    await rules.rename(work, ref, description=value_or_unset(body, "description"))
    return show_consumer(*await _reread(work, ref))


@router.delete(
    BY_NAME + "/{consumerName}",
    name="self-serve.consumer.delete",
    summary="Delete a consumer of mine",
    status_code=204,
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def delete_my_consumer(work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer) -> None:
    """Deletes it with its keys, where the bucket's owner allows it."""
    await rules.delete_consumer(work, ConsumerRef(bucket, name=consumer))


@router.post(
    BY_NAME + "/{consumerName}/roll",
    name="self-serve.consumer.roll-key",
    summary="Roll my keys",
    status_code=204,
    response_model=None,
    responses=_ROLLED,
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def roll_my_keys(
    work: CurrentUnitOfWork,
    request: Request,
    bucket: PathBucket,
    consumer: PathConsumer,
    body: RollKey,
) -> Response:
    """A new key; every other one ends at `expiresOn`, or with `{}` at once."""
    return await _roll(work, request, ConsumerRef(bucket, name=consumer), body)


@router.post(
    BY_NAME + "/{consumerName}/keys",
    name="self-serve.key.create",
    summary="Create a key of mine",
    responses=problems_of_users(403, 404, 409, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_create_keys)
async def create_my_key(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer, body: MyKeyCreate
) -> ManagedKeyShape:
    """A new key. The answer shows it; in a bucket that keeps no keys this is the only time."""
    ref = ConsumerRef(bucket, name=consumer)
    _, made = await rules.create_key(work, ref, description=body.description, expires_at=body.expires_on)
    return show_managed(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})


@router.patch(
    BY_NAME + "/{consumerName}/keys/{keyId}",
    name="self-serve.key.update",
    summary="Update a key of mine",
    responses=problems_of_users(403, 404, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def update_my_key(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer, key_id: PathKey, body: MyKeyUpdate
) -> ManagedKeyShape:
    """Switches a key off and on, and says what it is good for, of what is granted to the consumer, and from where.

    403 for switching on what the provider switched off.
    """
    return await _update_key(work, ConsumerRef(bucket, name=consumer), key_id, body)


@router.delete(
    BY_NAME + "/{consumerName}/keys/{keyId}",
    name="self-serve.key.delete",
    summary="Revoke a key of mine",
    status_code=204,
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def delete_my_key(work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumer, key_id: PathKey) -> None:
    """Ends a key: from the next request on it is unknown."""
    await rules.delete_key(work, ConsumerRef(bucket, name=consumer), key_id)


@router.get(
    BY_NAME + "/{consumerName}" + "/usage",
    name="self-serve.consumer.usage",
    summary="Usage of a consumer of mine",
    responses={**CSV, **problems_of_users(403, 404)},
    response_model=UsageShape,
    openapi_extra=NOTE,
)
async def get_my_usage(
    work: CurrentUnitOfWork,
    request: Request,
    bucket: PathBucket,
    consumer: PathConsumer,
    asked: AskedOfManaged,
    format: AskedFormat = None,
) -> Response | UsageShape:
    """How often its keys were validated, by `verdict` or `key`."""
    return await _usage(work, request, ConsumerRef(bucket, name=consumer), asked, format)


@router.get(
    BY_ID,
    name="self-serve.consumer.list",
    summary="List my consumers, by id",
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def list_client_consumers(work: CurrentUnitOfWork, bucket: PathBucket) -> ClientConsumers:
    """The consumers that the user manages, with their keys: whole, where the bucket keeps them."""
    found, views = await rules.list_consumers(work, bucket, with_secrets=True)
    return ClientConsumers(data=[show_client_consumer(found, view) for view in views])


@router.patch(
    BY_ID + "/{consumerId}",
    name="self-serve.consumer.update",
    summary="Rename a consumer of mine, by id",
    responses=problems_of_users(403, 404, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def update_client_consumer(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumerId, body: ClientConsumerUpdate
) -> ClientConsumer:
    """Changes the label, which is the consumer's description; null empties it."""
    ref = ConsumerRef(bucket, id=consumer)
    if body.model_fields_set - {"label"}:
        found, view = await _reread(work, ref)
        keys = body.api_keys.get("data") if isinstance(body.api_keys, Mapping) and len(body.api_keys) == 1 else None
        check_repeated(
            body,
            subject=body.subject == view.consumer.name,
            expires_on=body.expires_on is None,
            api_keys=repeats_keys(work, keys, view.keys or ()),
            **repeats_granted(body, found, view),
        )
    await rules.rename(work, ref, description=value_or_unset(body, "label"))
    return show_client_consumer(*await _reread(work, ref))


@router.post(
    BY_ID + "/{consumerId}/roll-key",
    name="self-serve.consumer.roll-key",
    summary="Roll my keys, by id",
    status_code=204,
    response_model=None,
    responses=_ROLLED,
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def roll_client_keys(
    work: CurrentUnitOfWork,
    request: Request,
    bucket: PathBucket,
    consumer: PathConsumerId,
    body: RollKey,
) -> Response:
    """A new key; every other one ends at `expiresOn`, or with `{}` at once."""
    return await _roll(work, request, ConsumerRef(bucket, id=consumer), body)


@router.patch(
    BY_ID + "/{consumerId}/keys/{keyId}",
    name="self-serve.key.update",
    summary="Update a key of mine, by id of its consumer",
    responses=problems_of_users(403, 404, 413, 415),
    openapi_extra=NOTE,
)
@admits(rules.may_manage)
async def update_client_key(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumerId, key_id: PathKey, body: MyKeyUpdate
) -> ManagedKeyShape:
    """Switches a key off and on, and says what it is good for, of what is granted to the consumer, and from where.

    403 for switching on what the provider switched off.
    """
    return await _update_key(work, ConsumerRef(bucket, id=consumer), key_id, body)


@router.delete(
    BY_ID + "/{consumerId}/keys/{keyId}",
    name="self-serve.key.delete",
    summary="Revoke a key of mine, by id of its consumer",
    status_code=204,
    responses=problems_of_users(403, 404),
    openapi_extra=NOTE,
)
async def delete_client_key(
    work: CurrentUnitOfWork, bucket: PathBucket, consumer: PathConsumerId, key_id: PathKey
) -> None:
    """Ends a key: from the next request on it is unknown."""
    await rules.delete_key(work, ConsumerRef(bucket, id=consumer), key_id)


@router.get(
    BY_ID + "/{consumerId}" + "/usage",
    name="self-serve.consumer.usage",
    summary="Usage of a consumer of mine, by id",
    responses={**CSV, **problems_of_users(403, 404)},
    response_model=UsageShape,
    openapi_extra=NOTE,
)
async def get_client_usage(
    work: CurrentUnitOfWork,
    request: Request,
    bucket: PathBucket,
    consumer: PathConsumerId,
    asked: AskedOfManaged,
    format: AskedFormat = None,
) -> Response | UsageShape:
    """How often its keys were validated, by `verdict` or `key`."""
    return await _usage(work, request, ConsumerRef(bucket, id=consumer), asked, format)


async def _usage(
    work: UnitOfWork, request: Request, ref: ConsumerRef, asked: Asked, format: UsageFormat | None
) -> Response | UsageShape:
    bucket, view = await rules.get_consumer(work, ref)
    found = await usage.of_managed_consumer(work, bucket, view.consumer.number, asked)
    return answer(request, asked, format, found)


async def _roll(work: UnitOfWork, request: Request, ref: ConsumerRef, body: RollKey) -> Response:
    is_shown = wants_representation(request)
    _, made = await rules.roll(work, ref, expires_at=body.expires_on, is_shown=is_shown)
    return rolled(request, show_managed(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret}))


async def _reread(work: UnitOfWork, ref: ConsumerRef) -> tuple[Bucket, ConsumerView]:
    return await rules.get_consumer(work, ref, with_secrets=True)


async def _update_key(work: UnitOfWork, ref: ConsumerRef, key_id: str, body: MyKeyUpdate) -> ManagedKeyShape:
    if body.model_fields_set - {"enabled", "scopes", "allowed_ips"}:
        key = await rules.get_key(work, ref, key_id)
        sent = {"id": key.id, **({"key": body.key} if "key" in body.model_fields_set else {})}
        check_repeated(
            body,
            description=body.description == key.description,
            expires_on=body.expires_on == (None if key.expires_at is None else to_iso(key.expires_at)),
            key=repeats_keys(work, [sent], [key]),
        )
    changed = await rules.update_key(
        work,
        ref,
        key_id,
        enabled=value_or_unset(body, "enabled"),
        scopes=value_or_unset(body, "scopes"),
        allowed_ips=value_or_unset(body, "allowed_ips"),
    )
    return show_managed(changed, KeyFormat.MASKED, {})
