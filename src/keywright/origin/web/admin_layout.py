"""Owns what stands around every page of the admin portal: the account, its projects, and where one may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Response

from keywright.domain.keyformat import Secret
from keywright.domain.models import Account, Bucket, Environment, Project
from keywright.domain.permissions import Access
from keywright.domain.problems import Forbidden
from keywright.origin.accounts import rules as accounts
from keywright.origin.buckets import rules as buckets
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline.unit_of_work import Page, get_account
from keywright.origin.web.request import Visit
from keywright.origin.web.router import EDGES_SECONDS

FEW = Page(limit=100)
"""As many as a menu can show; the rest is found on its own page."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The account that a page is about, and what the reader may do in it as a whole."""

    account: Account
    accounts: Sequence[Account]
    projects: Sequence[Project]
    url: str
    is_root: bool
    may_read: bool
    may_write: bool


async def load(visit: Visit) -> Frame:
    """The frame of the account in the address. Raises NotFound."""
    return await _load(visit, await get_account(visit.work, visit.at("accountName"), Access.NONE))


async def load_own(visit: Visit) -> Frame:
    """The frame of the reader's own account, around what belongs to none."""
    return await _load(visit, await accounts.get_own(visit.work))


async def _load(visit: Visit, account: Account) -> Frame:
    work, grantee = visit.work, visit.work.actor.grantee
    access = grantee.on_account(account.id)
    reachable, _ = await accounts.list_reachable(work, FEW)
    projects: Sequence[Project] = ()
    if access >= Access.READ:
        projects, _ = await accounts.list_projects(work, account.name, FEW)
    return Frame(
        account,
        reachable,
        projects,
        account_url(visit, account.name),
        grantee.is_root,
        access >= Access.READ,
        access >= Access.WRITE,
    )


async def page(visit: Visit, template: str, /, **values: Any) -> Response:
    """A page inside the frame of the account in the address."""
    return await visit.page(f"admin/{template}", frame=await load(visit), **values)


def applied(outcome: Outcome) -> str:
    """How far a change has got among the edges that are connected."""
    if outcome.is_reached:
        return "Every edge has applied it." if outcome.wanted != 1 else "The edge has applied it."
    if not outcome.is_known:
        return "Whether every edge has applied it could not be learnt in time: see Edges."
    behind = outcome.wanted - outcome.applied
    return f"{behind} of {outcome.wanted} edges had not applied it after {EDGES_SECONDS:g} s: see Edges."


def account_url(visit: Visit, account: str, *parts: str) -> str:
    return "/".join([f"{visit.base}/accounts", *(quote(part, safe="") for part in (account, *parts))])


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """The bucket that a page is about. `may_write`: its consumers and keys; `may_own`: the bucket itself as well."""

    bucket: Bucket
    places: Sequence[tuple[str, Environment]]
    url: str
    may_write: bool
    may_own: bool


async def find_bucket(visit: Visit) -> BucketPlace:
    """The bucket in the address. Raises NotFound and Forbidden."""
    account, view = await buckets.view(visit.work, visit.at("accountName"), visit.at("bucketName"))
    may_write = view.access >= Access.WRITE
    is_own = view.bucket.account_id == account.id
    url = bucket_url(visit)
    may_own = may_write and is_own and visit.work.actor.owns_buckets
    return BucketPlace(view.bucket, view.places, url, may_write, may_own)


async def bucket_page(visit: Visit, template: str, place: BucketPlace, /, **values: Any) -> Response:
    """A page inside the frame of the account, about the bucket in the address."""
    project = place.places[0][0] if place.places else ""
    return await page(visit, template, place=place, bucket=place.bucket, selected_project=project, **values)


def bucket_url(visit: Visit, *parts: str) -> str:
    return account_url(visit, visit.at("accountName"), "buckets", visit.at("bucketName"), *parts)


def require(is_allowed: bool, words: str) -> None:
    """Raises Forbidden: for pages that would only lead to a form that is refused."""
    if not is_allowed:
        raise Forbidden(words)


NO_WRITE = "You may look at this bucket, but not change what is in it."
NOT_OWN = "Only who may write in the account that owns this bucket may do this."
NO_ACCOUNT_WRITE = "You may not change this account."


async def show_made(
    visit: Visit, *, heading: str, label: str, secret: Secret, words: str, on: tuple[str, str]
) -> Response:
    """A secret that was made just now; `on` is the address and the words of the way on.

    Answered at once rather than after a redirect, so that the secret is kept nowhere for the next page.
    """
    visit.resend_url, on_words = on
    return await page(
        visit,
        "secret_created.html",
        heading=heading,
        label=label,
        secret=secret.reveal(),
        words=words,
        on_url=visit.resend_url,
        on_words=on_words,
    )


async def confirm(
    visit: Visit, *, heading: str, lines: Sequence[str], button: str, back: str, typed: str = ""
) -> Response:
    """Asks once more before what can't be taken back; with `typed`, for a name to be typed."""
    return await visit.page(
        "confirm.html",
        frame=await load(visit),
        heading=heading,
        lines=lines,
        button=button,
        back=back,
        typed=typed,
    )
