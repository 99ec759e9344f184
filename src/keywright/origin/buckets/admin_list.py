"""Buckets of an account: the list with its filters, and new ones."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.keyformat import DEFAULT_PREFIX, PREFIX_PATTERN
from keywright.domain.models import Environment
from keywright.origin.accounts import rules as accounts
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.rules import BucketDraft
from keywright.origin.pipeline.unit_of_work import BUCKET_NAME, PROJECT_NAME
from keywright.origin.web.admin_layout import (
    MAY_NOT_WRITE_ACCOUNT,
    account_url,
    load_layout,
    render_confirmation,
    render_page,
    require,
    show_secret,
)
from keywright.origin.web.paging import links, page_at
from keywright.origin.web.request import PageRequest
from keywright.origin.web.router import PageRouter

PAGE_SIZE = 50
NAME_WORDS = "5 to 128 of a-z, 0-9 and -"
PREFIX_WORDS = "2 to 16 of a-z and 0-9, beginning with a letter"


def register(router: PageRouter) -> None:
    @router.get("/accounts/{accountName}")
    async def start(request: PageRequest) -> Response:
        return request.redirect(account_url(request, request.path_param("accountName"), "buckets"))

    @router.get("/accounts/{accountName}/buckets")
    async def bucket_list(request: PageRequest) -> Response:
        project, chosen = request.query("project") or None, request.query("environment")
        environment = Environment(chosen) if chosen in set(Environment) else None
        part = page_at(request, PAGE_SIZE)
        found, total = await buckets.search(
            request.work, request.path_param("accountName"), project=project, environment=environment, page=part
        )
        return await render_page(
            request,
            "buckets/list.html",
            found=found,
            total=total,
            pages=links(request, part, total),
            selected_project=project or "",
            selected_environment=environment or "",
            environments=list(Environment),
        )

    @router.get("/accounts/{accountName}/buckets/new")
    async def new_bucket(request: PageRequest) -> Response:
        require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
        form = request.form.or_initial(key_prefix=DEFAULT_PREFIX, is_retrievable="on")
        return await render_page(request, "buckets/new.html", form=form)

    @router.post("/accounts/{accountName}/buckets/new", form=new_bucket, action="bucket.create", conflict="name")
    async def create(request: PageRequest) -> Response:
        form = request.form
        draft = BucketDraft(
            form.name("name", BUCKET_NAME, NAME_WORDS),
            form.description(),
            form.tags(),
            form.is_on("is_retrievable"),
            form.name("key_prefix", PREFIX_PATTERN, PREFIX_WORDS),
        )
        form.check()
        bucket, owner_key = await buckets.create(request.work, request.path_param("accountName"), draft)
        return await show_secret(
            request,
            heading=f"Bucket {bucket.name} is there",
            label="Its owner key",
            secret=owner_key.secret,
            words="The owner key may do anything in this bucket and nothing else. It is shown only now.",
            on=(account_url(request, request.path_param("accountName"), "buckets", bucket.name), "Go to the bucket"),
        )

    @router.get("/accounts/{accountName}/projects/new")
    async def new_project(request: PageRequest) -> Response:
        require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
        return await render_page(request, "accounts/project_new.html", form=request.form)

    @router.post("/accounts/{accountName}/projects/new", form=new_project, action="project.create", conflict="name")
    async def create_project(request: PageRequest) -> Response:
        name = request.form.name("name", PROJECT_NAME, "1 to 64 of a-z, 0-9 and -")
        request.form.check()
        project = await accounts.create_project(request.work, request.path_param("accountName"), name=name)
        url = account_url(request, request.path_param("accountName"), "buckets") + f"?project={project.name}"
        return request.redirect(url, f"Project {project.name} is there, with a bucket for each environment.")

    @router.get("/accounts/{accountName}/projects/{projectName}/delete")
    async def ask_delete_project(request: PageRequest) -> Response:
        require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
        project = await accounts.get_project(
            request.work, request.path_param("accountName"), request.path_param("projectName")
        )
        names = ", ".join(project.environments.values())
        return await render_confirmation(
            request,
            heading=f"Delete project {project.name}",
            lines=[
                f"Its buckets go with it: {names}.",
                "That is possible only while none of them has consumers. There is no way back.",
            ],
            button="Delete project",
            back=account_url(request, request.path_param("accountName"), "buckets") + f"?project={project.name}",
            typed=project.name,
        )

    @router.post(
        "/accounts/{accountName}/projects/{projectName}/delete", form=ask_delete_project, action="project.delete"
    )
    async def delete_project(request: PageRequest) -> Response:
        request.form.typed(request.path_param("projectName"))
        await accounts.delete_project(
            request.work, request.path_param("accountName"), request.path_param("projectName")
        )
        request.waits_for_edges = True
        url = account_url(request, request.path_param("accountName"), "buckets")
        return request.redirect(
            url, f"Project {request.path_param('projectName')} and its buckets are deleted. There is no way back."
        )
