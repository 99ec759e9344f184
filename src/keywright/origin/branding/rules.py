"""Rules of a developer portal's looks: what its owner may say, and what is safe to show to others."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import imagesize

from keywright.domain import text
from keywright.domain.models import Bucket
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest
from keywright.domain.unset import Unset
from keywright.origin.branding import store as rows
from keywright.origin.buckets.access import get_bucket
from keywright.origin.pipeline.unit_of_work import UnitOfWork

COLOUR = r"^#[0-9a-fA-F]{6}$"
NAME_LENGTH = 60
LINK_LENGTH = 40
URL_LENGTH = 500
MOST_LINKS = 6
MAX_LOGO_BYTES = 64 * 1024
MAX_LOGO_WIDTH = 160
"""In pixels, as pages.css has it."""
LOGO_LENGTH = len("data:image/jpeg;base64,") + 4 * math.ceil(MAX_LOGO_BYTES / 3)
# How such a file begins, in base64: \x89PNG\r\n\x1a\n, \xff\xd8\xff, RIFF....WEBP. No SVG: it is a document, which may
# hold scripts.
LOGO = (
    r"^data:image/(png;base64,iVBORw0KGg[o-r][A-Za-z0-9+/]|jpeg;base64,/9j/"
    r"|webp;base64,UklGR[g-v][A-Za-z0-9+/]{4}[BFJNRVZdhlptx159]XRUJQ)"
    r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
)


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Branding:
    """How a portal looks; None is left to us. `logo_digest` names the picture that is kept."""

    name: str | None = None
    color: str | None = None
    support_email: str | None = None
    api_url: str | None = None
    """Where the API is that the keys are for: the examples call it."""
    links: Sequence[Link] = ()
    logo_digest: str | None = None
    logo_type: str | None = None
    logo: bytes | None = field(default=None, repr=False)

    def logo_width(self, height: int) -> int:
        """How wide the logo is at this height, in pixels: a page that knows leaves room for it while it is fetched."""
        own_width, own_height = imagesize.get(io.BytesIO(self.logo or b""))
        if min(own_width, own_height) <= 0:
            # A picture that does not tell is taken for a square.
            return height
        width: int = round(height * own_width / own_height)
        return min(MAX_LOGO_WIDTH, width)


async def get(work: UnitOfWork, account_name: str, bucket_name: str) -> Branding:
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    return await of_bucket(work, bucket)


async def of_bucket(work: UnitOfWork, bucket: Bucket) -> Branding:
    """Without rights asked: whoever sees the portal sees it."""
    row = await rows.find(work.tx, bucket)
    if row is None:
        return Branding()
    settings = {**row.settings, "links": [Link(**link) for link in row.settings["links"]]}
    digest = hashlib.sha256(row.logo).hexdigest()[:16] if row.logo else None
    return Branding(**settings, logo_digest=digest, logo_type=row.logo_type, logo=row.logo)


async def update(work: UnitOfWork, account_name: str, bucket_name: str, changes: Mapping[str, Any]) -> Branding:
    """Replaces what is given by name; None empties. `logo` is a data: URL."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.WRITE, is_own=True, is_for_update=True)
    work.audit_draft.concerns("bucket", bucket.id, name=bucket.name)
    given = {name: value for name, value in changes.items() if not isinstance(value, Unset)}
    problems: list[dict[str, str]] = []
    if "logo" in given:
        given["logo_type"], given["logo"] = _logo(given["logo"], problems)
    if "links" in given:
        given["links"] = [Link(**link) for link in given["links"] or ()]
    changed = replace(await of_bucket(work, bucket), **given)
    problems += _problems(changed)
    if problems:
        raise BadRequest("The branding is not valid.", errors=problems)
    settings = asdict(changed)
    logo, logo_type = settings.pop("logo"), settings.pop("logo_type")
    del settings["logo_digest"]
    await rows.put(work.tx, bucket, settings=settings, logo=logo, logo_type=logo_type, now=work.now)
    return await of_bucket(work, bucket)


def _problems(branding: Branding) -> list[dict[str, str]]:
    found = []
    if branding.name is not None and not _is_line(branding.name, NAME_LENGTH):
        found.append(("name", f"must be 1 to {NAME_LENGTH} characters on one line"))
    if branding.color is not None and not text.is_whole(COLOUR, branding.color):
        found.append(("color", "must be a colour such as #0f5c6e"))
    if branding.support_email is not None and not text.is_email(branding.support_email):
        found.append(("supportEmail", "must be an e-mail address"))
    if branding.api_url is not None and not _is_web_address(branding.api_url):
        found.append(("apiUrl", "must be a web address such as https://api.example.com"))
    if len(branding.links) > MOST_LINKS:
        found.append(("links", f"must have at most {MOST_LINKS} items"))
    for place, link in enumerate(branding.links):
        if not _is_line(link.text, LINK_LENGTH):
            found.append((f"links.{place}.text", f"must be 1 to {LINK_LENGTH} characters on one line"))
        if not _is_web_address(link.url):
            found.append((f"links.{place}.url", "must be a web address such as https://example.com/docs"))
    return [{"field": f"body.{name}", "message": message} for name, message in found]


def _is_line(value: str, most: int) -> bool:
    return len(value) <= most and text.is_whole(text.LINE, value)


def _is_web_address(url: str) -> bool:
    return len(url) <= URL_LENGTH and text.is_whole(text.WEB_ADDRESS, url)


def _logo(url: str | None, problems: list[dict[str, str]]) -> tuple[str | None, bytes | None]:
    """The kind and the bytes of the picture in a data: URL. No other address is asked for one."""
    if url is None:
        return None, None
    if len(url) > LOGO_LENGTH or not text.is_whole(LOGO, url):
        most = MAX_LOGO_BYTES // 1024
        message = f"must be a PNG, JPEG or WebP picture of at most {most} KiB, as data:image/png;base64,..."
        problems.append({"field": "body.logo", "message": message})
        return None, None
    head, _, data = url.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(data)
