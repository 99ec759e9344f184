"""Owner keys of a bucket: credentials that may do anything in it and nothing else."""

from __future__ import annotations

from pydantic import Field

from keywright.domain.models import Key
from keywright.origin.buckets import owner_keys_rules as rules
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.api import BUCKET
from keywright.origin.keys.rules import is_value_of
from keywright.origin.keys.shapes import READ_ONLY, KeyFormat, KeyShape, show
from keywright.origin.openapi.bodies import Body, RepeatedMember, check_repeated
from keywright.origin.openapi.fields import ABSENT, AllowedIpsInput, Description, ListOf, MomentInput, value_or_unset
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork

router = new_router("Buckets")
OWNER_KEYS = BUCKET + "/owner-keys"


class OwnerKeyCreate(Body):
    """A new owner key."""

    description: Description | None = Field(default=None, examples=["Of the billing service"])
    expires_on: MomentInput | None = Field(
        default=None, description="When it ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )
    enabled: bool = Field(default=True, description="With false it is made switched off.")
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; from everywhere, if left out."
    )


class OwnerKeyUpdate(Body):
    """What is to change; what is left out stays."""

    read_only = READ_ONLY

    enabled: bool = Field(default=ABSENT, description="False switches it off: from the next request on it is refused.")
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; null is from everywhere."
    )
    description: RepeatedMember = ABSENT
    expires_on: RepeatedMember = ABSENT
    scopes: RepeatedMember = ABSENT
    metadata: RepeatedMember = ABSENT
    tags: RepeatedMember = ABSENT
    rate_limits: RepeatedMember = ABSENT
    key: RepeatedMember = ABSENT


@router.get(OWNER_KEYS, name="owner-key.list", summary="List owner keys", responses=problems(403, 404))
async def list_owner_keys(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, page: AskedPage
) -> ListOf[KeyShape]:
    """The keys that may do anything in this bucket, newest first, masked."""
    keys, total = await rules.list_of(work, account, bucket, page)
    return ListOf.of([show(key, KeyFormat.MASKED, {}) for key in keys], page, total)


@router.post(
    OWNER_KEYS,
    name="owner-key.create",
    summary="Create an owner key",
    responses=problems(403, 404, 409, 413, 415),
)
@admits(may_write_own_bucket)
async def create_owner_key(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: OwnerKeyCreate
) -> KeyShape:
    """One more owner key. It is shown here and never again."""
    made = await rules.create(
        work,
        account,
        bucket,
        description=body.description,
        expires_at=body.expires_on,
        enabled=body.enabled,
        allowed_ips=body.allowed_ips,
    )
    return show(made.key, KeyFormat.VISIBLE, {made.key.id: made.secret})


@router.get(
    OWNER_KEYS + "/{keyId:key_id}",
    name="owner-key.read",
    summary="Get an owner key",
    responses=problems(403, 404),
)
async def get_owner_key(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, key_id: PathKey) -> KeyShape:
    """An owner key, masked."""
    return show(await rules.get(work, account, bucket, key_id), KeyFormat.MASKED, {})


@router.patch(
    OWNER_KEYS + "/{keyId:key_id}",
    name="owner-key.update",
    summary="Update an owner key",
    responses=problems(403, 404, 413, 415),
)
@admits(may_write_own_bucket)
async def update_owner_key(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, key_id: PathKey, body: OwnerKeyUpdate
) -> KeyShape:
    """Switches it off or on, or says from where it may be used."""
    if body.model_fields_set - {"enabled", "allowed_ips"}:
        _check_repeated(work, body, await rules.get(work, account, bucket, key_id))
    changed = await rules.update(
        work,
        account,
        bucket,
        key_id,
        enabled=value_or_unset(body, "enabled"),
        allowed_ips=value_or_unset(body, "allowed_ips"),
    )
    return show(changed, KeyFormat.MASKED, {})


def _check_repeated(work: UnitOfWork, body: OwnerKeyUpdate, key: Key) -> None:
    read = show(key, KeyFormat.NONE, {}).model_dump(mode="json", by_alias=True)
    check_repeated(
        body,
        description=body.description == read["description"],
        expires_on=body.expires_on == read["expiresOn"],
        scopes=body.scopes == read["scopes"],
        metadata=body.metadata == read["metadata"],
        tags=body.tags == read["tags"],
        rate_limits=body.rate_limits == read["rateLimits"],
        key=isinstance(body.key, str) and is_value_of(work, key, body.key),
    )


@router.delete(
    OWNER_KEYS + "/{keyId:key_id}",
    name="owner-key.delete",
    summary="Revoke an owner key",
    status_code=204,
    responses=problems(403, 404),
)
async def delete_owner_key(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, key_id: PathKey) -> None:
    """Ends an owner key: from the next request on it is refused. The last one may go, too."""
    await rules.delete(work, account, bucket, key_id)
