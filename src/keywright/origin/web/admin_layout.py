"""Owns what stands around every page of the admin portal: the account, its projects, and where one may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Response

from keywright.domain.keyformat import Secret
from keywright.domain.models import Account, Bucket, Environment, Key, Project
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import Forbidden
from keywright.origin.accounts import rules as accounts
from keywright.origin.accounts.access import get_account, may_write_account
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.access import may_write_bucket
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.web.form_submission import EDGES_SECONDS
from keywright.origin.web.rendering import moment
from keywright.origin.web.request import PageRequest

ACCOUNT = "/accounts/{accountName}"
BUCKET = ACCOUNT + "/buckets/{bucketName}"
"""The addresses that the pages of the nouns are below."""

FEW = Page(limit=100)
"""As many as a menu can show; the rest is found on its own page."""


@dataclass(frozen=True, slots=True)
class PageLayout:
    """The account that a page is about, and what the reader may do in it as a whole."""

    account: Account
    accounts: Sequence[Account]
    projects: Sequence[Project]
    url: str
    is_root: bool
    may_read: bool
    may_write: bool


async def load_layout(request: PageRequest) -> PageLayout:
    """The layout of the account in the address. Raises NotFound."""
    return await _layout_of(request, await get_account(request.work, request.path_param("accountName"), Access.NONE))


async def load_own_layout(request: PageRequest) -> PageLayout:
    """The layout of the reader's own account, around what belongs to none."""
    return await _layout_of(request, await accounts.get_own(request.work))


async def _layout_of(request: PageRequest, account: Account) -> PageLayout:
    work, grantee = request.work, request.work.actor.grantee
    access = grantee.on_account(account.id)
    reachable, _ = await accounts.list_reachable(work, FEW)
    projects: Sequence[Project] = ()
    if access >= Access.READ:
        projects, _ = await accounts.list_projects(work, account.name, FEW)
    return PageLayout(
        account,
        reachable,
        projects,
        account_url(request, account.name),
        grantee.is_root,
        access >= Access.READ,
        access >= Access.WRITE,
    )


async def render_page(request: PageRequest, template: str, /, **values: Any) -> Response:
    """A page inside the layout of the account in the address."""
    return await request.render(f"admin/{template}", layout=await load_layout(request), **values)


async def may_send(work: UnitOfWork, path: Mapping[str, str]) -> None:
    """Whether the actor may change what an address is about: the bucket in it, else the account."""
    if "bucketName" in path:
        await may_write_bucket(work, path)
    elif "accountName" in path:
        await may_write_account(work, path)


def describe_outcome(outcome: Outcome) -> str:
    """How far a change has got among the edges that are connected."""
    if outcome.is_reached:
        return "Applied on all edges." if outcome.wanted != 1 else "Applied on the edge."
    if not outcome.is_known:
        return "It is not known yet whether all edges have applied it: see Edges."
    behind = outcome.wanted - outcome.applied
    return f"{behind} of {outcome.wanted} edges have not applied it after {EDGES_SECONDS:g} s: see Edges."


def account_url(request: PageRequest, account: str, *parts: str) -> str:
    return "/".join([f"{request.base}/accounts", *(quote(part, safe="") for part in (account, *parts))])


@dataclass(frozen=True, slots=True)
class BucketLayout:
    """The bucket that a page is about. `may_write`: its consumers and keys; `may_own`: the bucket itself as well."""

    bucket: Bucket
    environments: Sequence[tuple[str, Environment]]
    url: str
    may_write: bool
    may_own: bool


async def get_bucket_layout(request: PageRequest) -> BucketLayout:
    """The bucket in the address. Raises NotFound and Forbidden."""
    account, view = await buckets.view(
        request.work, request.path_param("accountName"), request.path_param("bucketName")
    )
    may_write = view.access >= Access.WRITE
    is_own = view.bucket.account_id == account.id
    url = bucket_url(request)
    may_own = may_write and is_own and request.work.actor.owns_buckets
    return BucketLayout(view.bucket, view.places, url, may_write, may_own)


def bucket_path(request: PageRequest) -> tuple[str, str]:
    """The names of account and bucket in the address."""
    return request.path_param("accountName"), request.path_param("bucketName")


async def render_bucket_page(request: PageRequest, template: str, layout: BucketLayout, /, **values: Any) -> Response:
    """A page inside the layout of the account, about the bucket in the address."""
    project = layout.environments[0][0] if layout.environments else ""
    return await render_page(
        request, template, bucket_layout=layout, bucket=layout.bucket, selected_project=project, **values
    )


def bucket_url(request: PageRequest, *parts: str) -> str:
    return account_url(request, request.path_param("accountName"), "buckets", request.path_param("bucketName"), *parts)


def developer_portal_url(request: PageRequest) -> str:
    """Where end users find the bucket in the address."""
    return f"/portal/{quote(request.path_param('bucketName'), safe='')}"


def require(is_allowed: bool, words: str) -> None:
    """Raises Forbidden: for pages that would only lead to a form that is refused."""
    if not is_allowed:
        raise Forbidden(words)


MAY_NOT_WRITE = "You have read-only access to this bucket."
MAY_NOT_OWN = "This needs write access to the account that owns the bucket."
MAY_NOT_WRITE_ACCOUNT = "You don't have write access to this account."


async def show_secret(
    request: PageRequest, *, heading: str, label: str, secret: Secret, words: str, on: tuple[str, str]
) -> Response:
    """A secret that was made just now; `on` is the address and the words of the way on.

    Answered at once rather than after a redirect, so that the secret is kept nowhere for the next page.
    """
    request.resend_url, on_words = on
    return await render_page(
        request,
        "secret_created.html",
        heading=heading,
        label=label,
        secret=secret.reveal(),
        words=words,
        on_url=request.resend_url,
        on_words=on_words,
    )


def describe_key(key: Key) -> str:
    """Which key it is, for who is about to end it."""
    named = f"“{key.description}”" if key.description else "A key without a description"
    return f"{named}, created on {moment(key.created_at)}"


async def render_confirmation(
    request: PageRequest, *, heading: str, lines: Sequence[str], button: str, back: str, typed: str = ""
) -> Response:
    """Asks once more before what can't be taken back; with `typed`, for a name to be typed."""
    return await request.render(
        "confirm.html",
        layout=await load_layout(request),
        heading=heading,
        lines=lines,
        button=button,
        back=back,
        typed=typed,
    )
