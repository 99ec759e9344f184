"""Owner keys of a bucket: credentials that may do anything in it and nothing else."""

from __future__ import annotations

from pydantic import Field

from keywright.origin.buckets import owner_keys_rules as rules
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.api import BUCKET
from keywright.origin.keys.api import KeyFormat, KeyShape, show
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import Description, ListOf, MomentInput
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Buckets")
OWNER_KEYS = BUCKET + "/owner-keys"


class OwnerKeyCreate(Body):
    """A new owner key."""

    description: Description | None = Field(default=None, examples=["Of the billing service"])
    expires_on: MomentInput | None = Field(
        default=None, description="When it ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )


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
    made = await rules.create(work, account, bucket, description=body.description, expires_at=body.expires_on)
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
