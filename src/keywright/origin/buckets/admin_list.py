"""Buckets of an account: the list with its filters, and new ones."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.models import Environment
from keywright.domain.names import BUCKET_NAME
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.rules import BucketDraft
from keywright.origin.web.admin_layout import (
    ACCOUNT,
    MAY_NOT_WRITE_ACCOUNT,
    account_url,
    load_layout,
    render_page,
    require,
    show_secret,
)
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

PAGE_SIZE = 50
NAME_WORDS = "5 to 128 characters: a-z, 0-9 and -"


async def start(request: PageRequest) -> Response:
    return request.redirect(account_url(request, request.path_param("accountName"), "buckets"))


async def bucket_list(request: PageRequest) -> Response:
    project, chosen = request.query("project") or None, request.query("environment")
    environment = Environment(chosen) if chosen in set(Environment) else None
    part = offset_page(request, PAGE_SIZE)
    found, total = await buckets.search(
        request.work, request.path_param("accountName"), project=project, environment=environment, page=part
    )
    return await render_page(
        request,
        "buckets/list.html",
        found=found,
        total=total,
        pages=offset_links(request, part, total),
        selected_project=project or "",
        selected_environment=environment or "",
        environments=list(Environment),
    )


async def new_bucket(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    form = request.form.or_initial(key_prefix=request.work.dependencies.key_prefix, is_retrievable="on")
    return await render_page(request, "buckets/new.html", form=form)


async def create(request: PageRequest) -> Response:
    form = request.form
    draft = BucketDraft(
        form.name("name", BUCKET_NAME, NAME_WORDS),
        form.description(),
        form.tags(),
        form.is_on("is_retrievable"),
        form.key_prefix(),
    )
    form.check()
    bucket, owner_key = await buckets.create(request.work, request.path_param("accountName"), draft)
    return await show_secret(
        request,
        heading=f"Bucket {bucket.name} created",
        label="Owner key",
        secret=owner_key.secret,
        words="The owner key has full access to this bucket and nothing else. Copy it now: it won't be shown again.",
        on=(account_url(request, request.path_param("accountName"), "buckets", bucket.name), "Go to bucket"),
    )


ROUTES = (
    GetRoute(ACCOUNT, start),
    GetRoute(ACCOUNT + "/buckets", bucket_list),
    GetRoute(ACCOUNT + "/buckets/new", new_bucket),
    PostRoute(ACCOUNT + "/buckets/new", create, form=new_bucket, action="bucket.create", conflict="name"),
)
