"""Buckets, their owner keys, and sharing them with other accounts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import Path
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from keywright.domain.keyformat import DEFAULT_PREFIX
from keywright.domain.models import Bucket, WhenStale
from keywright.domain.permissions import Access
from keywright.origin.buckets import rules
from keywright.origin.buckets.rules import BucketDraft, Grant
from keywright.origin.keys.api import KeyFormat, KeyShape, show
from keywright.origin.management_keys import rules as management
from keywright.origin.openapi.fields import (
    WITHOUT_FRACTION,
    AccountName,
    BucketName,
    Description,
    GivenMoment,
    GivenTags,
    KeyPrefix,
    ListOf,
    Moment,
    Shape,
    Tags,
    given,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.request import CurrentUnitOfWork
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
    key_prefix: str = Field(examples=[DEFAULT_PREFIX], description="What its generated keys begin with.")
    tags: Tags
    max_staleness_seconds: int | None = Field(
        description="For how long an edge may be out of step and not be stale; null is for ever.", examples=[300]
    )
    when_stale: WhenStale = Field(
        description="Whether a stale edge goes on judging this bucket's keys (`serve`) or answers 503 (`refuse`)."
    )
    self_serve: SelfServeShape


class NewBucketShape(BucketShape):
    """A bucket at the only moment when its owner key is shown."""

    owner_key: KeyShape = Field(description="May do anything in this bucket and nothing else. Shown here only.")


class BucketCreate(Shape):
    """A new bucket."""

    model_config = ConfigDict(json_schema_extra=_BOUNDED_HERE)

    name: BucketName = Field(description="Unique in the deployment.", examples=["my-bucket"])
    description: Description | None = Field(default=None, examples=["Partners in Europe"])
    tags: GivenTags | None = Field(default=None, examples=[{"region": "eu"}])
    is_retrievable: bool = Field(default=True, description="With false only digests of its keys are kept.")
    key_prefix: KeyPrefix = Field(default=DEFAULT_PREFIX, description="What generated keys begin with.")
    max_staleness_seconds: Staleness | None = Field(
        default=None, description="For how long an edge may be out of step and not be stale; null is for ever."
    )
    when_stale: Annotated[WhenStale, Field(strict=False)] = Field(
        default=WhenStale.SERVE,
        description="Whether a stale edge goes on judging this bucket's keys (`serve`) or answers 503 (`refuse`).",
    )
    self_serve: SelfServeUpdate | None = Field(default=None, description="What end users may do by themselves.")


class BucketUpdate(Shape):
    """What is to change; null empties a field."""

    model_config = ConfigDict(json_schema_extra=_BOUNDED)

    description: Description | None = Field(default=None, examples=["Partners in Europe"])
    tags: GivenTags | None = Field(default=None, examples=[{"region": "eu"}])
    max_staleness_seconds: Staleness | None = Field(
        default=None, description="For how long an edge may be out of step and not be stale; null is for ever."
    )
    when_stale: Annotated[WhenStale, Field(strict=False)] | None = Field(
        default=None, description="What a stale edge does with this bucket's keys; null is `serve`."
    )
    self_serve: SelfServeUpdate | None = Field(
        default=None, description="What end users may do by themselves; null sets all of it to the defaults."
    )


class OwnerKeyCreate(Shape):
    """A new owner key."""

    description: Description | None = Field(default=None, examples=["Of the billing service"])
    expires_on: GivenMoment | None = Field(
        default=None, description="When it ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )


class SharedAccess(StrEnum):
    """`validate` keys, `read` consumers and keys as well, or `write` (manage) them."""

    VALIDATE = "validate"
    READ = "read"
    WRITE = "write"


class GrantShape(Shape):
    """What another account may do in a bucket."""

    account: str = Field(examples=["partner-account"])
    access: SharedAccess
    created_on: Moment


class GrantCreate(Shape):
    """With whom a bucket is shared."""

    account: AccountName = Field(examples=["partner-account"])
    access: Annotated[SharedAccess, Field(strict=False)] = Field(
        description="`validate` keys, `read` consumers and keys as well, or `write` (manage) them."
    )


def _fields(bucket: Bucket) -> dict[str, object]:
    return {
        "id": bucket.id,
        "name": bucket.name,
        "created_on": bucket.created_at,
        "updated_on": bucket.updated_at,
        "description": bucket.description,
        "is_retrievable": bucket.is_retrievable,
        "key_prefix": bucket.key_prefix,
        "tags": dict(bucket.tags),
        "max_staleness_seconds": bucket.max_staleness_seconds,
        "when_stale": bucket.when_stale,
        "self_serve": show_self_serve(bucket.self_serve),
    }


def _show(bucket: Bucket) -> BucketShape:
    return BucketShape.model_validate(_fields(bucket))


def _show_grant(grant: Grant) -> GrantShape:
    return GrantShape(account=grant.account_name, access=SharedAccess(grant.access.label), created_on=grant.created_at)


@router.get(BUCKETS, name="bucket.list", summary="List buckets", responses=problems(403, 404))
async def list_buckets(work: CurrentUnitOfWork, account: PathAccount, page: AskedPage) -> ListOf[BucketShape]:
    """The buckets of an account and those shared with it, newest first."""
    buckets, total = await rules.list_of(work, account, page)
    return ListOf.of([_show(bucket) for bucket in buckets], page, total)


@router.post(BUCKETS, name="bucket.create", summary="Create a bucket", responses=problems(403, 404, 409, 413, 415))
async def create_bucket(work: CurrentUnitOfWork, account: PathAccount, body: BucketCreate) -> NewBucketShape:
    """A new bucket, born with its owner key."""
    draft = BucketDraft(
        body.name,
        body.description,
        body.tags or {},
        body.is_retrievable,
        body.key_prefix,
        body.max_staleness_seconds,
        body.when_stale,
        with_members(body.self_serve),
    )
    bucket, made = await rules.create(work, account, draft)
    owner_key = show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})
    return NewBucketShape.model_validate({**_fields(bucket), "owner_key": owner_key})


@router.get(BUCKET, name="bucket.read", summary="Get a bucket", responses=problems(403, 404))
async def get_bucket(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket) -> BucketShape:
    """A bucket of the account, or one that is shared with it."""
    return _show(await rules.get(work, account, bucket))


@router.patch(BUCKET, name="bucket.update", summary="Update a bucket", responses=problems(403, 404, 409, 413, 415))
async def update_bucket(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: BucketUpdate
) -> BucketShape:
    """Replaces what is sent, of `selfServe` the members that are. What is left out stays; null empties.

    409 where the bucket would then have `refuse` without `maxStalenessSeconds`.
    """
    changed = await rules.update(
        work,
        account,
        bucket,
        description=given(body, "description"),
        tags=given(body, "tags"),
        max_staleness_seconds=given(body, "max_staleness_seconds"),
        when_stale=given(body, "when_stale"),
        self_serve=members(given(body, "self_serve")),
    )
    return _show(changed)


@router.delete(BUCKET, name="bucket.delete", summary="Delete a bucket", status_code=204, responses=problems(403, 404))
async def delete_bucket(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket) -> None:
    """Deletes a bucket with all its consumers and keys, and its owner keys."""
    await rules.delete(work, account, bucket)


@router.get(BUCKET + "/owner-keys", name="owner-key.list", summary="List owner keys", responses=problems(403, 404))
async def list_owner_keys(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, page: AskedPage
) -> ListOf[KeyShape]:
    """The keys that may do anything in this bucket, newest first, masked."""
    keys, total = await management.list_owner_keys(work, account, bucket, page)
    return ListOf.of([show(key, KeyFormat.MASKED, {}) for key in keys], page, total)


@router.post(
    BUCKET + "/owner-keys",
    name="owner-key.create",
    summary="Create an owner key",
    responses=problems(403, 404, 409, 413, 415),
)
async def create_owner_key(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: OwnerKeyCreate
) -> KeyShape:
    """One more owner key. It is shown here and never again."""
    made = await management.create_owner_key(
        work, account, bucket, description=body.description, expires_at=body.expires_on
    )
    return show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})


@router.get(
    BUCKET + "/owner-keys/{keyId:key_id}",
    name="owner-key.read",
    summary="Get an owner key",
    responses=problems(403, 404),
)
async def get_owner_key(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, key_id: PathKey) -> KeyShape:
    """An owner key, masked."""
    return show(await management.get_owner_key(work, account, bucket, key_id), KeyFormat.MASKED, {})


@router.delete(
    BUCKET + "/owner-keys/{keyId:key_id}",
    name="owner-key.delete",
    summary="Revoke an owner key",
    status_code=204,
    responses=problems(403, 404),
)
async def delete_owner_key(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, key_id: PathKey) -> None:
    """Ends an owner key: from the next request on it is refused. The last one may go, too."""
    await management.delete_owner_key(work, account, bucket, key_id)


@router.get(BUCKET + "/grants", name="grant.list", summary="List grants", responses=problems(403, 404))
async def list_grants(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, page: AskedPage
) -> ListOf[GrantShape]:
    """The accounts that the bucket is shared with."""
    grants, total = await rules.list_grants(work, account, bucket, page)
    return ListOf.of([_show_grant(grant) for grant in grants], page, total)


@router.post(BUCKET + "/grants", name="grant.create", summary="Share a bucket", responses=problems(403, 404, 413, 415))
async def create_grant(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: GrantCreate
) -> GrantShape:
    """Lets another account use the bucket under its own address; sharing again changes the access."""
    access = Access.of(body.access)
    return _show_grant(await rules.share(work, account, bucket, with_account=body.account, access=access))


@router.delete(
    BUCKET + "/grants/{otherAccount}",
    name="grant.delete",
    summary="Stop sharing a bucket",
    status_code=204,
    responses=problems(403, 404),
)
async def delete_grant(
    work: CurrentUnitOfWork,
    account: PathAccount,
    bucket: PathBucket,
    other: Annotated[str, Path(alias="otherAccount", description="The account that it is shared with.")],
) -> None:
    """From the next request on the other account finds the bucket no more."""
    await rules.unshare(work, account, bucket, with_account=other)
