"""Owns the question that every rule of a bucket begins with: may the actor know of it, and do this much in it."""

from __future__ import annotations

from collections.abc import Mapping

from keywright.domain.models import Account, Bucket
from keywright.domain.names import BUCKET_NAME
from keywright.domain.permissions import Access
from keywright.domain.problems import Forbidden, NotFound
from keywright.domain.text import is_whole
from keywright.origin.accounts.access import get_visible_account
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.pipeline.unit_of_work import UnitOfWork


async def get_bucket(
    work: UnitOfWork, account_name: str, name: str, need: Access, *, is_own: bool = False, is_for_update: bool = False
) -> tuple[Account, Bucket]:
    """The bucket of that name as the account sees it: its own, or shared with it.

    With `is_own` a shared one will not do. Raises NotFound where the actor may not know of it, Forbidden where it may
    do less.
    """
    account = await get_visible_account(work, account_name)
    bucket = await _find_bucket(work, name, is_for_update=is_for_update)
    if bucket is None or (bucket.account_id != account.id and account.id not in bucket.grants_at(work.now)):
        raise _not_found(work, name)
    access = access_to(work, bucket)
    if access is Access.NONE:
        # 404, not 403: a 403 would tell that the bucket exists.
        raise _not_found(work, name)
    if access < need:
        raise Forbidden(f"{work.actor.holding} has no {need.label} access to the bucket.")
    if is_own and bucket.account_id != account.id:
        raise Forbidden("The bucket belongs to another account, which alone may do this.")
    if is_own and need >= Access.WRITE and not work.actor.owns_buckets:
        raise Forbidden("Your role reaches the bucket's consumers and keys, not the bucket itself.")
    return account, bucket


async def may_write_bucket(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the actor may change what is in the bucket that an address names. Raises NotFound, Forbidden."""
    await get_bucket(work, path["accountName"], path["bucketName"], Access.WRITE)


async def may_write_own_bucket(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the actor may change the bucket itself. Raises NotFound, Forbidden."""
    await get_bucket(work, path["accountName"], path["bucketName"], Access.WRITE, is_own=True)


def access_to(work: UnitOfWork, bucket: Bucket) -> Access:
    """How far the actor's permissions reach in this bucket."""
    return work.actor.grantee.on_bucket(
        bucket_id=bucket.id, bucket_name=bucket.name, account_id=bucket.account_id, grants=bucket.grants_at(work.now)
    )


def _not_found(work: UnitOfWork, name: str) -> NotFound:
    """The same words for what is not there and what may not be seen."""
    named = f" named {name!r}" if is_whole(BUCKET_NAME, name) else ""
    holding = work.actor.holding[0].lower() + work.actor.holding[1:]
    return NotFound(f"The account has no bucket{named}, or {holding} may not see it.")


async def _find_bucket(work: UnitOfWork, name: str, *, is_for_update: bool) -> Bucket | None:
    # A name that no bucket can have (the system bucket's among them) is not looked for.
    if not is_whole(BUCKET_NAME, name):
        return None
    return await bucket_rows.find(work.tx, name, is_for_update=is_for_update)
