"""Buckets. Their owner keys are in owner_keys_api.py, sharing them in grants/api.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from keywright.domain.keyformat import DEFAULT_PREFIX
from keywright.domain.models import Bucket, Key, WhenStale
from keywright.domain.paging import Page
from keywright.origin.accounts.access import may_write_account
from keywright.origin.buckets import owner_keys_rules, rules
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.rules import BucketDraft
from keywright.origin.keys.shapes import KeyFormat, KeyShape, repeats_keys, show
from keywright.origin.openapi.bodies import Body, RepeatedMember, check_repeated
from keywright.origin.openapi.fields import (
    ABSENT,
    WITHOUT_FRACTION,
    BucketName,
    Description,
    KeyPrefix,
    ListOf,
    Moment,
    Scopes,
    ScopesInput,
    Shape,
    Tags,
    TagsInput,
    value_or_unset,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.self_serve.settings_shape import (
    SelfServeShape,
    SelfServeUpdate,
    members,
    show_self_serve,
    with_members,
)

router = new_router("Buckets")
# A century: more is never, which null says.
Staleness = Annotated[int, Field(ge=1, le=rules.MAX_STALENESS_SECONDS, examples=[300]), WITHOUT_FRACTION]
# Who asks for refusals says from when on: in the request itself where there is no bucket yet that says so.
_IF_REFUSED: JsonDict = {"properties": {"whenStale": {"const": "refuse"}}, "required": ["whenStale"]}
_THEN_BOUNDED: JsonDict = {"properties": {"maxStalenessSeconds": {"type": "integer"}}}
_BOUNDED: JsonDict = {"if": _IF_REFUSED, "then": _THEN_BOUNDED}
_BOUNDED_HERE: JsonDict = {"if": _IF_REFUSED, "then": {**_THEN_BOUNDED, "required": ["maxStalenessSeconds"]}}
READ_ONLY = (*Body.read_only, "formerKeyPrefixes")
BUCKETS = "/accounts/{accountName}/key-buckets"
BUCKET = BUCKETS + "/{bucketName}"


class BucketShape(Shape):
    """A top-level group of consumers: a namespace for their names and keys."""

    id: str = Field(examples=["bckt_pCcNMjERFSoh5xIQir7o99Z6KDoLp36e"])
    name: str = Field(examples=["my-bucket"])
    created_on: Moment
    updated_on: Moment
    description: str | None
    is_retrievable: bool = Field(description="Whether keys can be shown again after they were made.")
    key_prefix: str = Field(examples=[DEFAULT_PREFIX], description="What generated keys begin with.")
    former_key_prefixes: list[str] = Field(
        examples=[["acme_live"]], description="What keys may begin with that were generated before."
    )
    tags: Tags
    max_staleness_seconds: int | None = Field(
        description="For how long an edge may be out of step and not be stale; null is for ever.", examples=[300]
    )
    when_stale: WhenStale = Field(
        description="Whether a stale edge goes on judging this bucket's keys (`serve`) or answers 503 (`refuse`)."
    )
    self_serve: SelfServeShape
    default_scopes: Scopes = Field(description="What keys of consumers are good for that have no scopes of their own.")
    record_addresses: bool = Field(
        description="Whether edges tell from which networks (/24 and /48) keys are used. These may be personal data.",
        examples=[False],
    )


class NewBucketShape(BucketShape):
    """A bucket at the only moment when its owner key is shown."""

    owner_key: KeyShape = Field(description="May do anything in this bucket and nothing else. Shown here only.")


class BucketCreate(Body):
    """A new bucket."""

    model_config = ConfigDict(json_schema_extra=_BOUNDED_HERE)
    read_only = READ_ONLY

    name: BucketName = Field(description="Unique in the deployment.", examples=["my-bucket"])
    description: Description | None = Field(default=None, examples=["Partners in Europe"])
    tags: TagsInput = Field(default={}, examples=[{"region": "eu"}])
    is_retrievable: bool = Field(default=True, description="With false only digests of its keys are kept.")
    key_prefix: KeyPrefix = Field(
        default=ABSENT,
        description="What generated keys begin with; left out, the deployment's.",
        examples=["acme_live"],
    )
    max_staleness_seconds: Staleness | None = Field(
        default=None, description="For how long an edge may be out of step and not be stale; null is for ever."
    )
    when_stale: Annotated[WhenStale, Field(strict=False)] = Field(
        default=WhenStale.SERVE,
        description="Whether a stale edge goes on judging this bucket's keys (`serve`) or answers 503 (`refuse`).",
    )
    self_serve: SelfServeUpdate = Field(
        default=ABSENT,
        description="What end users may do by themselves.",
    )
    default_scopes: ScopesInput = Field(
        default=[], description="What keys of consumers are good for that have no scopes of their own; `*` is all."
    )
    record_addresses: bool = Field(
        default=False, description="Whether edges tell from which networks (/24 and /48) its keys are used."
    )


class BucketUpdate(Body):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=_BOUNDED)
    read_only = READ_ONLY

    description: Description | None = Field(default=None, examples=["Partners in Europe"])
    tags: TagsInput = Field(default=ABSENT, examples=[{"region": "eu"}])
    max_staleness_seconds: Staleness | None = Field(
        default=None, description="For how long an edge may be out of step and not be stale; null is for ever."
    )
    when_stale: Annotated[WhenStale, Field(strict=False)] = Field(
        default=ABSENT,
        description="What a stale edge does with this bucket's keys.",
    )
    self_serve: SelfServeUpdate = Field(
        default=ABSENT,
        description="What end users may do by themselves.",
    )
    default_scopes: ScopesInput = Field(
        default=ABSENT, description="What keys of consumers are good for that have no scopes of their own; `*` is all."
    )
    record_addresses: bool = Field(
        default=ABSENT,
        description="Whether edges tell from which networks keys are used. False deletes what they told.",
    )
    key_prefix: KeyPrefix = Field(
        default=ABSENT,
        description="What keys begin with that are generated from now on. Those that there are stay good.",
        examples=["acme_live"],
    )
    name: RepeatedMember = ABSENT
    is_retrievable: RepeatedMember = ABSENT
    owner_key: RepeatedMember = ABSENT


def _fields(bucket: Bucket) -> dict[str, object]:
    return {
        "id": bucket.id,
        "name": bucket.name,
        "created_on": bucket.created_at,
        "updated_on": bucket.updated_at,
        "description": bucket.description,
        "is_retrievable": bucket.is_retrievable,
        "key_prefix": bucket.key_prefix,
        "former_key_prefixes": list(bucket.former_key_prefixes),
        "tags": dict(bucket.tags),
        "max_staleness_seconds": bucket.max_staleness_seconds,
        "when_stale": bucket.when_stale,
        "self_serve": show_self_serve(bucket.self_serve),
        "default_scopes": list(bucket.default_scopes),
        "record_addresses": bucket.record_addresses,
    }


async def _check_repeated(work: UnitOfWork, account: str, name: str, body: BucketUpdate) -> None:
    if body.model_fields_set.isdisjoint({"name", "is_retrievable", "owner_key"}):
        return
    bucket = await rules.get(work, account, name)
    owner_keys: list[Key] = []
    if body.owner_key is not ABSENT:
        owner_keys, _ = await owner_keys_rules.list_of(work, account, name, Page())
    is_owner_key = any(repeats_keys(work, [body.owner_key], [key]) for key in owner_keys)
    check_repeated(
        body,
        name=body.name == bucket.name,
        is_retrievable=body.is_retrievable is bucket.is_retrievable,
        owner_key=is_owner_key,
    )


def _show(bucket: Bucket) -> BucketShape:
    return BucketShape.model_validate(_fields(bucket))


@router.get(BUCKETS, name="bucket.list", summary="List buckets", responses=problems(403, 404))
async def list_buckets(work: CurrentUnitOfWork, account: PathAccount, page: AskedPage) -> ListOf[BucketShape]:
    """The buckets of an account and those shared with it, newest first: all of them, or those that the key may read."""
    buckets, total = await rules.list_of(work, account, page)
    return ListOf.of([_show(bucket) for bucket in buckets], page, total)


@router.post(BUCKETS, name="bucket.create", summary="Create a bucket", responses=problems(403, 404, 409, 413, 415))
@admits(may_write_account)
async def create_bucket(work: CurrentUnitOfWork, account: PathAccount, body: BucketCreate) -> NewBucketShape:
    """A new bucket, born with its owner key, which ends when the management key ends that makes it."""
    draft = BucketDraft(
        body.name,
        body.description,
        body.tags,
        body.is_retrievable,
        None if body.key_prefix is ABSENT else body.key_prefix,
        body.max_staleness_seconds,
        body.when_stale,
        with_members(body.self_serve),
        body.default_scopes,
        body.record_addresses,
    )
    bucket, made = await rules.create(work, account, draft)
    owner_key = show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})
    return NewBucketShape.model_validate({**_fields(bucket), "owner_key": owner_key})


@router.get(BUCKET, name="bucket.read", summary="Get a bucket", responses=problems(403, 404))
async def get_bucket(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket) -> BucketShape:
    """A bucket of the account, or one that is shared with it."""
    return _show(await rules.get(work, account, bucket))


@router.patch(BUCKET, name="bucket.update", summary="Update a bucket", responses=problems(403, 404, 409, 413, 415))
@admits(may_write_own_bucket)
async def update_bucket(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: BucketUpdate
) -> BucketShape:
    """Replaces what is sent, of `selfServe` the members that are. What is left out stays.

    409 where the bucket would then have `refuse` without `maxStalenessSeconds`, or too many former prefixes.
    """
    await _check_repeated(work, account, bucket, body)
    changed = await rules.update(
        work,
        account,
        bucket,
        description=value_or_unset(body, "description"),
        tags=value_or_unset(body, "tags"),
        max_staleness_seconds=value_or_unset(body, "max_staleness_seconds"),
        when_stale=value_or_unset(body, "when_stale"),
        self_serve=members(value_or_unset(body, "self_serve")),
        default_scopes=value_or_unset(body, "default_scopes"),
        record_addresses=value_or_unset(body, "record_addresses"),
        key_prefix=value_or_unset(body, "key_prefix"),
    )
    return _show(changed)


@router.delete(BUCKET, name="bucket.delete", summary="Delete a bucket", status_code=204, responses=problems(403, 404))
async def delete_bucket(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket) -> None:
    """Deletes a bucket with all its consumers and keys, and its owner keys."""
    await rules.delete(work, account, bucket)
