"""How the developer portal of a bucket looks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keywright.domain import text
from keywright.origin.branding import rules
from keywright.origin.branding.rules import (
    COLOUR,
    LINK_LENGTH,
    LOGO,
    LOGO_LENGTH,
    MOST_LINKS,
    NAME_LENGTH,
    URL_LENGTH,
    Branding,
)
from keywright.origin.buckets.access import may_write_own_bucket
from keywright.origin.buckets.api import BUCKET
from keywright.origin.openapi.bodies import Body
from keywright.origin.openapi.fields import ABSENT, Email, Shape, value_or_unset
from keywright.origin.openapi.parameters import PathAccount, PathBucket, new_router
from keywright.origin.openapi.problem_responses import problems
from keywright.origin.pipeline.body import admits
from keywright.origin.pipeline.request import CurrentUnitOfWork

router = new_router("Buckets")
PORTAL = BUCKET + "/portal"
# The patterns are checked by the rules, which forms go through as well.
Name = Annotated[str, Field(max_length=NAME_LENGTH, json_schema_extra={"pattern": text.LINE})]
LinkText = Annotated[str, Field(max_length=LINK_LENGTH, json_schema_extra={"pattern": text.LINE})]
Colour = Annotated[str, Field(json_schema_extra={"pattern": COLOUR})]
Logo = Annotated[str, Field(max_length=LOGO_LENGTH, json_schema_extra={"pattern": LOGO})]
WebAddress = Annotated[str, Field(max_length=URL_LENGTH, json_schema_extra={"pattern": text.WEB_ADDRESS})]


class LinkShape(Body):
    """A link at the foot of the portal."""

    read_only = ()

    text: LinkText = Field(examples=["Documentation"])
    url: WebAddress = Field(examples=["https://example.com/docs"])


class PortalShape(Shape):
    """How the developer portal of a bucket looks; null is left to the service."""

    name: str | None = Field(examples=["Example API"])
    color: str | None = Field(
        description="It is made darker or lighter where it could not be read.", examples=["#0f5c6e"]
    )
    support_email: str | None = Field(examples=["help@example.com"])
    api_url: str | None = Field(
        description="Where the API is that the keys are for.", examples=["https://api.example.com"]
    )
    links: list[LinkShape]
    logo_url: str | None = Field(description="Where the service shows the logo.", examples=[None])


class PortalUpdate(Body):
    """What is to change; null leaves a text or the logo to the service."""

    read_only = ("logoUrl",)

    name: Name | None = Field(default=None, examples=["Example API"])
    color: Colour | None = Field(default=None, examples=["#0f5c6e"])
    support_email: Email | None = Field(default=None, examples=["help@example.com"])
    api_url: WebAddress | None = Field(default=None, examples=["https://api.example.com"])
    links: list[LinkShape] = Field(default=ABSENT, max_length=MOST_LINKS)
    logo: Logo | None = Field(
        default=None,
        description="A picture as a data: URL (PNG, JPEG or WebP, at most 64 KiB). It is kept and shown from here.",
        examples=[None],
    )


@router.get(PORTAL, name="portal.read", summary="Get the portal's looks", responses=problems(403, 404))
async def get_portal(work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket) -> PortalShape:
    """How the developer portal of a bucket looks."""
    return _show(bucket, await rules.get(work, account, bucket))


@router.patch(PORTAL, name="portal.update", summary="Update the portal's looks", responses=problems(403, 404, 413, 415))
@admits(may_write_own_bucket)
async def update_portal(
    work: CurrentUnitOfWork, account: PathAccount, bucket: PathBucket, body: PortalUpdate
) -> PortalShape:
    """Replaces what is sent. What is left out stays; null leaves a text or the logo to the service."""
    names = ("name", "color", "support_email", "api_url", "logo")
    links = value_or_unset(body, "links")
    changes = {name: value_or_unset(body, name) for name in names}
    changes["links"] = [link.model_dump() for link in links] if isinstance(links, list) else links
    return _show(bucket, await rules.update(work, account, bucket, changes))


def _show(bucket_name: str, branding: Branding) -> PortalShape:
    logo_url = f"/portal/{bucket_name}/logo?v={branding.logo_digest}" if branding.logo_digest else None
    return PortalShape(
        name=branding.name,
        color=branding.color,
        support_email=branding.support_email,
        api_url=branding.api_url,
        links=[LinkShape(text=link.text, url=link.url) for link in branding.links],
        logo_url=logo_url,
    )
