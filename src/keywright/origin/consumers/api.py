"""Consumers of a bucket."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Response
from pydantic import BeforeValidator, Field

from keywright.domain.text import EMAIL_LENGTH
from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.consumers import rules
from keywright.origin.consumers.access import ConsumerPath
from keywright.origin.consumers.managers_api import InviteShape, ManagerShape, show_invite, show_manager
from keywright.origin.consumers.parameters import CONSUMER, CONSUMERS, AskedConsumer
from keywright.origin.consumers.rules import ConsumerDraft, ConsumerView, Include, ManagerDraft
from keywright.origin.keys.api import AskedFormat
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.keys.shapes import KeyCreate, KeyFormat, KeyShape, repeats_keys, show
from keywright.origin.openapi.bodies import Body, RepeatedMember, check_repeated, repeats_all
from keywright.origin.openapi.fields import (
    ABSENT,
    AllowedIps,
    AllowedIpsInput,
    ConsumerName,
    Description,
    Email,
    Flag,
    Issuer,
    LimitName,
    ListOf,
    Metadata,
    MetadataInput,
    Moment,
    Scopes,
    ScopesInput,
    Shape,
    Subject,
    Tags,
    TagsInput,
    value_or_unset,
    without_default,
)
from keywright.origin.openapi.limits import (
    QuotaShape,
    QuotasInput,
    RateLimitShape,
    RateLimitsInput,
    quotas_of,
    rate_limits_of,
    show_quotas,
    show_rate_limits,
)
from keywright.origin.openapi.parameters import AskedPage, PathAccount, PathBucket, TagQuery, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.query import WantedTags
from keywright.origin.pipeline.request import CurrentUnitOfWork
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.usage import rules as usage
from keywright.origin.usage.parameters import UnusedSince, tell_known_until

router = new_router("Consumers")


class ConsumerShape(Shape):
    """The identity that keys authenticate as."""

    id: str = Field(examples=["csmr_brw0leTAVw478VFKD4F6OqVI"])
    name: str = Field(examples=["my-consumer"], description="Becomes `user.sub`.")
    created_on: Moment
    updated_on: Moment
    description: str | None
    tags: Tags
    metadata: Metadata
    enabled: bool = Field(description="False for one that is switched off, and all its keys with it.")
    scopes: Scopes | None = Field(
        description="What its keys are good for; null is its plan's, or the bucket's `defaultScopes`, `[]` nothing."
    )
    allowed_ips: AllowedIps | None = Field(description="From where its keys may be used; null is from everywhere.")
    plan: str | None = Field(description="The name of its plan, null for none.", examples=["gold"])
    rate_limits: list[RateLimitShape] | None = Field(
        description="How often its keys may be used, all together; null is as often as its plan says, `[]` any number "
        "of times.",
        examples=[None],
    )
    quotas: list[QuotaShape] | None = Field(
        description="How much its keys may use in a period, all together; null is as much as its plan says, `[]` any "
        "amount.",
        examples=[None],
    )
    last_used_on: Moment | None = Field(
        description="When a key of it was last found `VALID`; null for never, as far as edges have told.",
        examples=["2027-01-31T12:00:00.000Z"],
    )
    api_keys: list[KeyShape] = Field(
        default=[], description="Where `include-api-keys` asked for them.", json_schema_extra=without_default
    )
    managers: list[ManagerShape] = Field(
        default=[], description="Where `include-managers` asked for them.", json_schema_extra=without_default
    )
    manager_invites: list[InviteShape] = Field(
        default=[], description="Where `include-manager-invites` asked for them.", json_schema_extra=without_default
    )


READ_ONLY = (*Body.read_only, "lastUsedOn")


class ManagerGiven(Body):
    """A manager with its `sub`, an invite without."""

    read_only = ("id", "createdOn")

    email: Email
    sub: Subject | None = None
    issuer: Issuer | None = None


def _from_email(value: Any) -> Any:
    return {"email": value} if isinstance(value, str) else value


ManagerOrEmail = Annotated[ManagerGiven, BeforeValidator(_from_email, json_schema_input_type=Email | ManagerGiven)]


class ConsumerCreate(Body):
    """A new consumer."""

    read_only = READ_ONLY

    name: ConsumerName = Field(description="Unique in the bucket; becomes `user.sub`.", examples=["my-consumer"])
    description: Description | None = Field(default=None, examples=["The consumer of Example Ltd"])
    tags: TagsInput = Field(default={}, description="For management only.", examples=[{"plan": "gold"}])
    metadata: MetadataInput = Field(default={}, description="Becomes `user.data`.", examples=[{"orgId": "org_123"}])
    enabled: bool = Field(default=True, description="With false it is made switched off, and so are its keys.")
    scopes: ScopesInput | None = Field(
        default=None,
        description="What its keys are good for; left out or null, what its plan says, or else the bucket's "
        "`defaultScopes`; `[]` is nothing.",
    )
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which its keys may be used; everywhere, if left out."
    )
    plan: LimitName | None = Field(default=None, description="The name of a plan of the bucket.")
    rate_limits: RateLimitsInput | None = Field(
        default=None,
        description="How often its keys may be used, all together; left out or null, as often as its plan says; `[]` "
        "is any number of times.",
    )
    quotas: QuotasInput | None = Field(
        default=None,
        description="How much its keys may use in a period, all together; left out or null, as much as its plan says; "
        "`[]` is any amount.",
    )
    managers: list[ManagerOrEmail] = Field(
        default=[], max_length=100, description="E-mail addresses to invite, or managers with their `sub`."
    )
    api_keys: list[KeyCreate] = Field(
        default=[], max_length=1000, description="Keys to create with it; one whose `expiresOn` is past has ended."
    )


class ConsumerUpdate(Body):
    """What is to change, each field as a whole; what is left out stays, `{}` empties tags or metadata."""

    read_only = READ_ONLY

    description: Description | None = Field(default=None, examples=["The consumer of Example Ltd"])
    tags: TagsInput = Field(
        default=ABSENT,
        description="For management only.",
        examples=[{"plan": "silver"}],
    )
    metadata: MetadataInput = Field(
        default=ABSENT,
        description="Becomes `user.data`.",
        examples=[{"orgId": "org_123"}],
    )
    enabled: bool = Field(default=ABSENT, description="False switches it off, and all its keys with it.")
    scopes: ScopesInput | None = Field(
        default=None,
        description="What its keys are good for; null is its plan's, or the bucket's `defaultScopes`, `[]` nothing.",
    )
    allowed_ips: AllowedIpsInput | None = Field(
        default=None, description="Addresses and networks from which its keys may be used; null is everywhere."
    )
    plan: LimitName | None = Field(default=None, description="The name of a plan of the bucket; null takes it away.")
    rate_limits: RateLimitsInput | None = Field(
        default=None,
        description="How often its keys may be used, all together; null is as often as its plan says, `[]` any number "
        "of times.",
    )
    quotas: QuotasInput | None = Field(
        default=None,
        description="How much its keys may use in a period, all together; null is as much as its plan says, `[]` any "
        "amount.",
    )
    name: RepeatedMember = ABSENT
    api_keys: RepeatedMember = ABSENT
    managers: RepeatedMember = ABSENT
    manager_invites: RepeatedMember = ABSENT


async def _include(
    keys: Annotated[Flag, Query(alias="include-api-keys", description="Show each consumer's keys.")] = False,
    managers: Annotated[Flag, Query(alias="include-managers", description="Show its managers.")] = False,
    invites: Annotated[Flag, Query(alias="include-manager-invites", description="Show its open invites.")] = False,
    format: AskedFormat = KeyFormat.MASKED,
) -> tuple[Include, KeyFormat]:
    return Include(keys, managers, invites, secrets=keys and format is KeyFormat.VISIBLE), format


AskedInclude = Annotated[tuple[Include, KeyFormat], Depends(_include)]


@router.get(
    CONSUMERS,
    name="consumer.list",
    summary="List consumers",
    responses=problems(403, 404),
    response_model_exclude_unset=True,
)
async def list_consumers(
    work: CurrentUnitOfWork,
    account: PathAccount,
    bucket: PathBucket,
    page: AskedPage,
    asked: AskedInclude,
    tags: WantedTags,
    response: Response,
    manager_email: Annotated[
        str | None,
        Query(
            alias="manager-email",
            max_length=EMAIL_LENGTH,
            description="Only those that this person manages or is invited to: none, where it is no address.",
        ),
    ] = None,
    tag: TagQuery = None,
    unused_since: UnusedSince = None,
) -> ListOf[ConsumerShape]:
    """The consumers of a bucket, newest first."""
    include, format = asked
    views, total = await rules.list_of(
        work,
        account,
        bucket,
        tags=tags,
        manager_email=manager_email,
        include=include,
        page=page,
        unused_since=unused_since,
    )
    tell_known_until(response, await usage.known_until(work, account, bucket))
    return ListOf.of([_show(view, format) for view in views], page, total)


@router.post(
    CONSUMERS,
    name="consumer.create",
    summary="Create a consumer",
    responses=problems(403, 404, 409, 413, 415),
    response_model_exclude_unset=True,
)
@admits(may_write_bucket)
async def create_consumer(
    work: CurrentUnitOfWork,
    account: PathAccount,
    bucket: PathBucket,
    body: ConsumerCreate,
    with_api_key: Annotated[Flag, Query(alias="with-api-key", description="Create a key with it.")] = False,
) -> ConsumerShape:
    """A new consumer; keys that are made with it are shown whole."""
    drafts = [key.to_draft() for key in body.api_keys]
    if with_api_key and not drafts:
        drafts = [KeyDraft()]
    managers = [ManagerDraft(one.email, one.sub, one.issuer) for one in body.managers]
    draft = ConsumerDraft(
        body.name,
        body.description,
        body.tags,
        body.metadata,
        managers,
        drafts,
        enabled=body.enabled,
        scopes=body.scopes,
        allowed_ips=body.allowed_ips,
        plan=body.plan,
        rate_limits=rate_limits_of(body.rate_limits),
        quotas=quotas_of(body.quotas),
    )
    return _show(await rules.create(work, account, bucket, draft), KeyFormat.VISIBLE)


@router.get(
    CONSUMER,
    name="consumer.read",
    summary="Get a consumer",
    responses=problems(403, 404),
    response_model_exclude_unset=True,
)
async def get_consumer(
    work: CurrentUnitOfWork, path: AskedConsumer, asked: AskedInclude, response: Response
) -> ConsumerShape:
    """A consumer, with its keys, managers and invites where they are asked for."""
    include, format = asked
    view = await rules.get(work, path, include)
    tell_known_until(response, await usage.known_until(work, path.account_name, path.bucket_name))
    return _show(view, format)


@router.patch(
    CONSUMER,
    name="consumer.update",
    summary="Update a consumer",
    responses=problems(403, 404, 413, 415),
    response_model_exclude_unset=True,
)
@admits(may_write_bucket)
async def update_consumer(work: CurrentUnitOfWork, path: AskedConsumer, body: ConsumerUpdate) -> ConsumerShape:
    """Replaces what is sent, each member as a whole. What is left out stays.

    What its scopes lose its keys lose; one that is switched off has no good key, until it is switched on again.
    """
    await _check_repeated(work, path, body)
    consumer = await rules.update(
        work,
        path,
        description=value_or_unset(body, "description"),
        tags=value_or_unset(body, "tags"),
        metadata=value_or_unset(body, "metadata"),
        enabled=value_or_unset(body, "enabled"),
        scopes=value_or_unset(body, "scopes"),
        allowed_ips=value_or_unset(body, "allowed_ips"),
        plan=value_or_unset(body, "plan"),
        rate_limits=rate_limits_of(value_or_unset(body, "rate_limits")),
        quotas=quotas_of(value_or_unset(body, "quotas")),
    )
    return _show(ConsumerView(consumer), KeyFormat.NONE)


@router.delete(
    CONSUMER, name="consumer.delete", summary="Delete a consumer", status_code=204, responses=problems(403, 404)
)
async def delete_consumer(work: CurrentUnitOfWork, path: AskedConsumer) -> None:
    """Deletes a consumer with its managers and keys: from the next request on they are unknown."""
    await rules.delete(work, path)


async def _check_repeated(work: UnitOfWork, path: ConsumerPath, body: ConsumerUpdate) -> None:
    if body.model_fields_set.isdisjoint({"name", "api_keys", "managers", "manager_invites"}):
        return
    view = await rules.get(work, path, Include(keys=True, managers=True, invites=True))
    check_repeated(
        body,
        name=body.name == view.consumer.name,
        api_keys=repeats_keys(work, body.api_keys, view.keys or ()),
        managers=repeats_all(body.managers, [_written(show_manager(one)) for one in view.managers or ()]),
        manager_invites=repeats_all(body.manager_invites, [_written(show_invite(one)) for one in view.invites or ()]),
    )


def _written(shape: Shape) -> dict[str, Any]:
    return shape.model_dump(mode="json", by_alias=True)


def _show(view: ConsumerView, format: KeyFormat) -> ConsumerShape:
    consumer = view.consumer
    shape = ConsumerShape.model_construct(
        id=consumer.id,
        name=consumer.name,
        created_on=consumer.created_at,
        updated_on=consumer.updated_at,
        description=consumer.description,
        tags=dict(consumer.tags),
        metadata=dict(consumer.metadata),
        enabled=consumer.enabled,
        scopes=None if consumer.scopes is None else list(consumer.scopes),
        allowed_ips=None if consumer.allowed_ips is None else list(consumer.allowed_ips),
        plan=None if consumer.plan is None else consumer.plan.name,
        rate_limits=show_rate_limits(consumer.rate_limits),
        quotas=show_quotas(consumer.quotas),
        last_used_on=consumer.last_used_at,
    )
    if view.keys is not None:
        shape.api_keys = [show(key, format, view.secrets) for key in view.keys]
    if view.managers is not None:
        shape.managers = [show_manager(manager) for manager in view.managers]
    if view.invites is not None:
        shape.manager_invites = [show_invite(invite) for invite in view.invites]
    return shape
