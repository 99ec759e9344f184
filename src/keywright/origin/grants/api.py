"""Grants of a bucket: sharing it with other accounts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import Path
from pydantic import Field

from keywright.domain.permissions import Access
from keywright.origin.buckets import rules
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.api import BUCKET
from keywright.origin.buckets.rules import Grant
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import AccountName, ListOf, Moment, MomentInput, Shape
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Buckets")
GRANTS = BUCKET + "/grants"


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
    expires_on: Moment | None = Field(description="When it ends; null is never.")


class GrantCreate(Body):
    """With whom a bucket is shared."""

    read_only = ("createdOn",)

    account: AccountName = Field(examples=["partner-account"])
    access: Annotated[SharedAccess, Field(strict=False)] = Field(
        description="`validate` keys, `read` consumers and keys as well, or `write` (manage) them."
    )
    expires_on: MomentInput | None = Field(
        default=None,
        description="When it ends; if left out never, or with the management key that shares it.",
        examples=["2027-01-31T12:00:00.000Z"],
    )


@router.get(GRANTS, name="grant.list", summary="List grants", responses=problems(403, 404))
async def list_grants(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, page: AskedPage
) -> ListOf[GrantShape]:
    """The accounts that the bucket is shared with."""
    grants, total = await rules.list_grants(work, account, bucket, page)
    return ListOf.of([_show_grant(grant) for grant in grants], page, total)


@router.post(GRANTS, name="grant.create", summary="Share a bucket", responses=problems(403, 404, 413, 415))
@admits(may_write_own_bucket)
async def create_grant(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: GrantCreate
) -> GrantShape:
    """Lets another account use the bucket under its own address; sharing again changes the access and the end. A key
    that ends shares it no longer than that.
    """
    access = Access.of(body.access)
    made = await rules.share(
        work, account, bucket, with_account=body.account, access=access, expires_at=body.expires_on
    )
    return _show_grant(made)


@router.delete(
    GRANTS + "/{otherAccount}",
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


def _show_grant(grant: Grant) -> GrantShape:
    return GrantShape(
        account=grant.account_name,
        access=SharedAccess(grant.access.label),
        created_on=grant.created_at,
        expires_on=grant.expires_at,
    )
