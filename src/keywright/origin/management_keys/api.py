"""Management keys of an account: credentials for the Developer API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from keywright.domain import keyformat
from keywright.domain.keyformat import Secret
from keywright.domain.models import ManagementKey
from keywright.domain.permissions import Access, Permissions
from keywright.origin.accounts.access import may_write_account
from keywright.origin.grants.api import SharedAccess
from keywright.origin.keys.rules import is_value_of
from keywright.origin.management_keys import rules
from keywright.origin.openapi.bodies import Body, RepeatedMember, check_repeated
from keywright.origin.openapi.fields import (
    ABSENT,
    AllowedIps,
    AllowedIpsInput,
    BucketNameOrAll,
    Description,
    ListOf,
    Moment,
    MomentInput,
    Shape,
    value_or_unset,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathKey, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork

router = new_router("Accounts")
MANAGEMENT_KEYS = "/accounts/{accountName}/management-keys"
MAX_NAMED_BUCKETS = 100


class AccountAccess(StrEnum):
    """What a management key may do in its account and in all buckets of it."""

    NONE = "none"
    READ = "read"
    WRITE = "write"


class PermissionsShape(Body):
    """What a management key may do: in the account with all of its buckets, and in single buckets by name."""

    read_only = ()

    account: Annotated[AccountAccess, Field(strict=False)] = AccountAccess.NONE
    buckets: dict[BucketNameOrAll, Annotated[SharedAccess, Field(strict=False)]] = Field(
        default_factory=dict,
        max_length=MAX_NAMED_BUCKETS,
        description="What it may do in single buckets, by name; `*` is every bucket.",
        examples=[{"my-bucket": "write"}, {"*": "validate"}],
        json_schema_extra={"additionalProperties": False},
    )
    feed: bool = Field(default=False, description="May follow the change feed, as an edge does.")


class ManagementKeyShape(Shape):
    """A credential for this API."""

    id: str = Field(examples=["key_m1m4ol223R0kGHGZY7tPQMQl"])
    description: str | None
    created_on: Moment
    updated_on: Moment
    expires_on: Moment | None = Field(description="When it ends; null is never.")
    enabled: bool = Field(description="False for one that is switched off.")
    allowed_ips: AllowedIps | None = Field(description="From where it may be used; null is from everywhere.")
    permissions: PermissionsShape
    key: str = Field(
        description="Whole when it was just made, else its last characters.",
        examples=["kwmk_d67b7e241bb948758f415b79aa8ec822_2efb7009"],
    )


class ManagementKeyCreate(Body):
    """A new management key."""

    description: Description | None = Field(default=None, examples=["Deploys from CI"])
    expires_on: MomentInput | None = Field(
        default=None, description="When it ends; never, if left out.", examples=["2027-01-31T12:00:00.000Z"]
    )
    enabled: bool = Field(default=True, description="With false it is made switched off.")
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; from everywhere, if left out."
    )
    permissions: PermissionsShape

    def to_permissions(self) -> Permissions:
        asked = self.permissions
        buckets = {name: Access.of(access) for name, access in asked.buckets.items()}
        return Permissions(Access.of(asked.account), buckets, asked.feed)


class ManagementKeyUpdate(Body):
    """What is to change; what is left out stays."""

    enabled: bool = Field(default=ABSENT, description="False switches it off: from the next request on it is refused.")
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which it may be used; null is from everywhere."
    )
    description: RepeatedMember = ABSENT
    expires_on: RepeatedMember = ABSENT
    permissions: RepeatedMember = ABSENT
    key: RepeatedMember = ABSENT


@router.get(MANAGEMENT_KEYS, name="management-key.list", summary="List management keys", responses=problems(403, 404))
async def list_management_keys(
    work: CurrentUnitOfWork, account: PathAccount, page: AskedPage
) -> ListOf[ManagementKeyShape]:
    """The credentials of an account for this API, newest first, masked."""
    keys, total = await rules.list_of(work, account, page)
    return ListOf.of([_show_key(key) for key in keys], page, total)


@router.post(
    MANAGEMENT_KEYS,
    name="management-key.create",
    summary="Create a management key",
    responses=problems(403, 404, 409, 413, 415),
)
@admits(may_write_account)
async def create_management_key(
    work: CurrentUnitOfWork, account: PathAccount, body: ManagementKeyCreate
) -> ManagementKeyShape:
    """A new management key. It is shown here and never again."""
    made, secret = await rules.create(
        work,
        account,
        description=body.description,
        expires_at=body.expires_on,
        permissions=body.to_permissions(),
        enabled=body.enabled,
        allowed_ips=body.allowed_ips,
    )
    return _show_key(made, secret)


@router.get(
    MANAGEMENT_KEYS + "/{keyId:key_id}",
    name="management-key.read",
    summary="Get a management key",
    responses=problems(403, 404),
)
async def get_management_key(work: CurrentUnitOfWork, account: PathAccount, key_id: PathKey) -> ManagementKeyShape:
    """A management key, masked, and what it may do."""
    return _show_key(await rules.get(work, account, key_id))


@router.patch(
    MANAGEMENT_KEYS + "/{keyId:key_id}",
    name="management-key.update",
    summary="Update a management key",
    responses=problems(403, 404, 409, 413, 415),
)
@admits(may_write_account)
async def update_management_key(
    work: CurrentUnitOfWork, account: PathAccount, key_id: PathKey, body: ManagementKeyUpdate
) -> ManagementKeyShape:
    """Switches it off or on, or says from where it may be used. The last root key can't be switched off here: 409."""
    if body.model_fields_set - {"enabled", "allowed_ips"}:
        _check_repeated(work, body, await rules.get(work, account, key_id))
    changed = await rules.update(
        work,
        account,
        key_id,
        enabled=value_or_unset(body, "enabled"),
        allowed_ips=value_or_unset(body, "allowed_ips"),
    )
    return _show_key(changed)


@router.delete(
    MANAGEMENT_KEYS + "/{keyId:key_id}",
    name="management-key.delete",
    summary="Revoke a management key",
    status_code=204,
    responses=problems(403, 404, 409),
)
async def delete_management_key(work: CurrentUnitOfWork, account: PathAccount, key_id: PathKey) -> None:
    """Ends a management key: from the next request on it is refused. The last root key can't be ended here: 409."""
    await rules.delete(work, account, key_id)


def _check_repeated(work: UnitOfWork, body: ManagementKeyUpdate, found: ManagementKey) -> None:
    read = _show_key(found).model_dump(mode="json", by_alias=True)
    check_repeated(
        body,
        description=body.description == read["description"],
        expires_on=body.expires_on == read["expiresOn"],
        permissions=body.permissions == read["permissions"],
        key=isinstance(body.key, str) and is_value_of(work, found.key, body.key),
    )


def _show_key(made: ManagementKey, secret: Secret | None = None) -> ManagementKeyShape:
    key = made.key
    return ManagementKeyShape(
        id=key.id,
        description=key.description,
        created_on=key.created_at,
        updated_on=key.updated_at,
        expires_on=key.expires_at,
        enabled=key.enabled,
        allowed_ips=None if key.allowed_ips is None else list(key.allowed_ips),
        permissions=PermissionsShape.model_validate(made.grantee.permissions.to_json()),
        key=secret.reveal() if secret else keyformat.mask(key.hint),
    )
