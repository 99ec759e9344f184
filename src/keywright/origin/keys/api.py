"""Keys of a consumer, and rolling them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body as RequestBody
from fastapi import Query, Request, Response

from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.consumers.parameters import CONSUMER, AskedConsumer
from keywright.origin.keys import rules
from keywright.origin.keys.shapes import KeyCreate, KeyFormat, KeyShape, KeyUpdate, ManagedKeyShape, RollKey, show
from keywright.origin.openapi.fields import ListOf, value_or_unset
from keywright.origin.openapi.limits import rate_limits_of
from keywright.origin.openapi.parameters import AskedPage, KeyTagQuery, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.query import WantedKeyTags, wants_representation
from keywright.origin.pipeline.request import CurrentUnitOfWork

MAX_BULK = 1000

router = new_router("Keys")
KEYS = CONSUMER + "/keys"


AskedFormat = Annotated[
    KeyFormat,
    Query(
        alias="key-format",
        description="`masked`: the last characters only. `visible`: the whole key. `none`: no `key` at all.",
    ),
]


@router.get(KEYS, name="key.list", summary="List keys", responses=problems(403, 404), response_model_exclude_unset=True)
async def list_keys(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    page: AskedPage,
    tags: WantedKeyTags,
    format: AskedFormat = KeyFormat.MASKED,
    key_tag: KeyTagQuery = None,
) -> ListOf[KeyShape]:
    """The keys of a consumer, newest first."""
    bucket, consumer, keys, total = await rules.list_of(work, path, page, tags=tags)
    secrets = await rules.reveal(work, bucket, [consumer], keys) if format is KeyFormat.VISIBLE else {}
    return ListOf.of([show(key, format, secrets) for key in keys], page, total)


@router.post(KEYS, name="key.create", summary="Create a key", responses=problems(403, 404, 409, 413, 415))
@admits(may_write_bucket)
async def create_key(work: CurrentUnitOfWork, path: AskedConsumer, body: KeyCreate) -> KeyShape:
    """A new key. The answer shows it; in a bucket that is not retrievable this is the only time."""
    (made,) = await rules.create(work, path, [body.to_draft()])
    return show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})


@router.post(
    KEYS + "/$bulk", name="key.create-bulk", summary="Create many keys", responses=problems(403, 404, 409, 413, 415)
)
@admits(may_write_bucket)
async def create_keys(
    work: CurrentUnitOfWork, path: AskedConsumer, body: Annotated[list[KeyCreate], RequestBody(max_length=MAX_BULK)]
) -> ListOf[KeyShape]:
    """Up to 1000 keys, all or nothing, answered in the order in which they were sent."""
    made = await rules.create(work, path, [draft.to_draft() for draft in body], is_bulk=True)
    shapes = [show(one.key, KeyFormat.VISIBLE, {one.key.id: one.secret}) for one in made]
    return ListOf(data=shapes, limit=MAX_BULK, offset=0, total=len(shapes))


@router.get(
    KEYS + "/{keyId:key_id}",
    name="key.read",
    summary="Get a key",
    responses=problems(403, 404),
    response_model_exclude_unset=True,
)
async def get_key(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    key_id: PathKey,
    tags: WantedKeyTags,
    format: AskedFormat = KeyFormat.MASKED,
    key_tag: KeyTagQuery = None,
) -> KeyShape:
    """A key of a consumer, masked unless `visible` is asked for."""
    bucket, consumer, key = await rules.get(work, path, key_id, tags=tags)
    secrets = await rules.reveal(work, bucket, [consumer], [key]) if format is KeyFormat.VISIBLE else {}
    return show(key, format, secrets)


@router.patch(
    KEYS + "/{keyId:key_id}", name="key.update", summary="Update a key", responses=problems(403, 404, 413, 415)
)
@admits(may_write_bucket)
async def update_key(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    key_id: PathKey,
    body: KeyUpdate,
    tags: WantedKeyTags,
    key_tag: KeyTagQuery = None,
) -> KeyShape:
    """Replaces what is sent; what is left out stays. An `expiresOn` in the past ends the key, `enabled` false switches
    it off: from the next request on it is refused.
    """
    key = await rules.update(
        work,
        path,
        key_id,
        description=value_or_unset(body, "description"),
        expires_at=value_or_unset(body, "expires_on"),
        secret=value_or_unset(body, "key"),
        enabled=value_or_unset(body, "enabled"),
        scopes=value_or_unset(body, "scopes"),
        allowed_ips=value_or_unset(body, "allowed_ips"),
        metadata=value_or_unset(body, "metadata"),
        tags=value_or_unset(body, "tags"),
        rate_limits=rate_limits_of(value_or_unset(body, "rate_limits")),
        guard=tags,
    )
    return show(key, KeyFormat.MASKED, {})


@router.delete(
    KEYS + "/{keyId:key_id}", name="key.delete", summary="Revoke a key", status_code=204, responses=problems(403, 404)
)
async def delete_key(
    work: CurrentUnitOfWork,
    path: AskedConsumer,
    key_id: PathKey,
    tags: WantedKeyTags,
    key_tag: KeyTagQuery = None,
) -> None:
    """Ends a key: from the next request on it is unknown."""
    await rules.delete(work, path, key_id, guard=tags)


@router.post(
    CONSUMER + "/roll-key",
    name="consumer.roll-key",
    summary="Roll keys",
    status_code=204,
    response_model=None,
    responses={
        200: {"model": KeyShape, "description": "The new key, where `Prefer: return=representation` was sent."},
        **problems(403, 404, 413, 415),
    },
)
@admits(may_write_bucket)
async def roll_keys(work: CurrentUnitOfWork, request: Request, path: AskedConsumer, body: RollKey) -> Response:
    """Makes a new key without expiry; every other key ends at `expiresOn`, or with `{}` at once, unless it ends sooner.

    So does one that is switched off.

    In a bucket that keeps no keys the new one must be asked for, with `Prefer: return=representation`.
    """
    is_shown = wants_representation(request)
    _, made = await rules.roll(work, path, expires_at=body.expires_on, is_shown=is_shown)
    return rolled(request, show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret}))


def rolled(request: Request, shape: ManagedKeyShape) -> Response:
    """204, or the new key where the caller prefers to see it."""
    if not wants_representation(request):
        return Response(status_code=204)
    headers = {"Preference-Applied": "return=representation"}
    return Response(shape.model_dump_json(by_alias=True), media_type="application/json", headers=headers)
