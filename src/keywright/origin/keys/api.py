"""Keys of a consumer, and rolling them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Body as RequestBody
from fastapi import Query, Request, Response
from pydantic import Field

from keywright.domain import keyformat
from keywright.domain.keyformat import MAX_LENGTH, Secret
from keywright.domain.models import Key, to_iso
from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.consumers.parameters import CONSUMER, AskedConsumer
from keywright.origin.keys import rules
from keywright.origin.keys.rules import KeyDraft, MadeKey
from keywright.origin.openapi.bodies import Body, repeats_all
from keywright.origin.openapi.fields import (
    ABSENT,
    CustomKey,
    Description,
    ListOf,
    Moment,
    MomentInput,
    Shape,
    parse_moment,
    value_or_unset,
    without_default,
)
from keywright.origin.openapi.parameters import (
    AskedPage,
    PathKey,
    new_router,
)
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.query import wants_representation
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork

MAX_BULK = 1000

router = new_router("Keys")
KEYS = CONSUMER + "/keys"


class KeyFormat(StrEnum):
    """How keys are shown."""

    NONE = "none"
    VISIBLE = "visible"
    MASKED = "masked"


AskedFormat = Annotated[
    KeyFormat,
    Query(
        alias="key-format",
        description="`masked`: the last characters only. `visible`: the whole key. `none`: no `key` at all.",
    ),
]


class KeyShape(Shape):
    """A credential of a consumer."""

    id: str = Field(examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])
    description: str | None = Field(examples=["My first API Key"])
    created_on: Moment
    updated_on: Moment
    expires_on: Moment | None = Field(description="The key is good until, and not including, this moment.")
    key: str = Field(
        default="",
        description="The key: whole when it was just made or `visible` was asked for, else its last characters.",
        examples=["zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"],
        json_schema_extra=without_default,
    )


class KeyCreate(Body):
    """A new key."""

    description: Description | None = Field(default=None, examples=["My first API Key"])
    expires_on: MomentInput | None = Field(
        default=None, description="When the key ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )
    key: CustomKey = Field(
        default=ABSENT,
        description="An existing secret to bring along. Best left out.",
    )

    def to_draft(self) -> KeyDraft:
        return KeyDraft(self.description, self.expires_on, self.key)


class KeyUpdate(Body):
    """What is to change; what is left out stays."""

    description: Description | None = Field(default=None, examples=["The key of the test server"])
    expires_on: MomentInput | None = Field(
        default=None, description="When the key ends; null is never.", examples=["2027-01-31T12:00:00.000Z"]
    )
    key: str = Field(
        default=ABSENT,
        max_length=MAX_LENGTH,
        description="May be sent back as it was read; it can't be changed.",
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
    shape = KeyShape.model_construct(
        id=key.id,
        description=key.description,
        created_on=key.created_at,
        updated_on=key.updated_at,
        expires_on=key.expires_at,
    )
    if format is KeyFormat.NONE:
        return shape
    secret = secrets.get(key.id)
    shape.key = secret.reveal() if secret is not None else keyformat.mask(key.hint)
    return shape


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


@router.get(KEYS, name="key.list", summary="List keys", responses=problems(403, 404), response_model_exclude_unset=True)
async def list_keys(
    work: CurrentUnitOfWork, path: AskedConsumer, page: AskedPage, format: AskedFormat = KeyFormat.MASKED
) -> ListOf[KeyShape]:
    """The keys of a consumer, newest first."""
    bucket, consumer, keys, total = await rules.list_of(work, path, page)
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
    work: CurrentUnitOfWork, path: AskedConsumer, key_id: PathKey, format: AskedFormat = KeyFormat.MASKED
) -> KeyShape:
    """A key of a consumer, masked unless `visible` is asked for."""
    bucket, consumer, key = await rules.get(work, path, key_id)
    secrets = await rules.reveal(work, bucket, [consumer], [key]) if format is KeyFormat.VISIBLE else {}
    return show(key, format, secrets)


@router.patch(
    KEYS + "/{keyId:key_id}", name="key.update", summary="Update a key", responses=problems(403, 404, 413, 415)
)
@admits(may_write_bucket)
async def update_key(work: CurrentUnitOfWork, path: AskedConsumer, key_id: PathKey, body: KeyUpdate) -> KeyShape:
    """Changes the description or the expiry. What is left out stays. An `expiresOn` in the past ends the key."""
    key = await rules.update(
        work,
        path,
        key_id,
        description=value_or_unset(body, "description"),
        expires_at=value_or_unset(body, "expires_on"),
        secret=value_or_unset(body, "key"),
    )
    return show(key, KeyFormat.MASKED, {})


@router.delete(
    KEYS + "/{keyId:key_id}", name="key.delete", summary="Revoke a key", status_code=204, responses=problems(403, 404)
)
async def delete_key(work: CurrentUnitOfWork, path: AskedConsumer, key_id: PathKey) -> None:
    """Ends a key: from the next request on it is unknown."""
    await rules.delete(work, path, key_id)


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

    In a bucket that keeps no keys the new one must be asked for, with `Prefer: return=representation`.
    """
    is_shown = wants_representation(request)
    _, made = await rules.roll(work, path, expires_at=body.expires_on, is_shown=is_shown)
    return rolled(request, made)


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


def rolled(request: Request, made: MadeKey) -> Response:
    """204, or the new key where the caller prefers to see it."""
    if not wants_representation(request):
        return Response(status_code=204)
    shape = show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})
    headers = {"Preference-Applied": "return=representation"}
    return Response(shape.model_dump_json(by_alias=True), media_type="application/json", headers=headers)
