"""Buckets of an account: the list with its filters, and new ones."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.keyformat import DEFAULT_PREFIX, PREFIX_PATTERN
from keywright.domain.models import Environment
from keywright.origin.accounts import rules as accounts
from keywright.origin.buckets import rules as buckets
from keywright.origin.buckets.rules import BucketDraft
from keywright.origin.pipeline.unit_of_work import BUCKET_NAME, PROJECT_NAME
from keywright.origin.web.admin_layout import NO_ACCOUNT_WRITE, account_url, confirm, load, page, require, show_made
from keywright.origin.web.paging import links, page_at
from keywright.origin.web.request import Visit
from keywright.origin.web.router import Door

PAGE_SIZE = 50
NAME_WORDS = "5 to 128 of a-z, 0-9 and -"
PREFIX_WORDS = "2 to 16 of a-z and 0-9, beginning with a letter"


def register(door: Door) -> None:
    @door.get("/accounts/{accountName}")
    async def start(visit: Visit) -> Response:
        return visit.go(account_url(visit, visit.at("accountName"), "buckets"))

    @door.get("/accounts/{accountName}/buckets")
    async def bucket_list(visit: Visit) -> Response:
        project, chosen = visit.ask("project") or None, visit.ask("environment")
        environment = Environment(chosen) if chosen in set(Environment) else None
        part = page_at(visit, PAGE_SIZE)
        found, total = await buckets.search(
            visit.work, visit.at("accountName"), project=project, environment=environment, page=part
        )
        return await page(
            visit,
            "buckets/list.html",
            found=found,
            total=total,
            pages=links(visit, part, total),
            selected_project=project or "",
            selected_environment=environment or "",
            environments=list(Environment),
        )

    @door.get("/accounts/{accountName}/buckets/new")
    async def new_bucket(visit: Visit) -> Response:
        require((await load(visit)).may_write, NO_ACCOUNT_WRITE)
        form = visit.form.or_of(key_prefix=DEFAULT_PREFIX, is_retrievable="on")
        return await page(visit, "buckets/new.html", form=form)

    @door.post("/accounts/{accountName}/buckets/new", form=new_bucket, action="bucket.create", conflict="name")
    async def create(visit: Visit) -> Response:
        form = visit.form
        draft = BucketDraft(
            form.name("name", BUCKET_NAME, NAME_WORDS),
            form.description(),
            form.tags(),
            form.is_on("is_retrievable"),
            form.name("key_prefix", PREFIX_PATTERN, PREFIX_WORDS),
        )
        form.check()
        bucket, owner_key = await buckets.create(visit.work, visit.at("accountName"), draft)
        return await show_made(
            visit,
            heading=f"Bucket {bucket.name} is there",
            label="Its owner key",
            secret=owner_key.secret,
            words="The owner key may do anything in this bucket and nothing else. It is shown only now.",
            on=(account_url(visit, visit.at("accountName"), "buckets", bucket.name), "Go to the bucket"),
        )

    @door.get("/accounts/{accountName}/projects/new")
    async def new_project(visit: Visit) -> Response:
        require((await load(visit)).may_write, NO_ACCOUNT_WRITE)
        return await page(visit, "accounts/project_new.html", form=visit.form)

    @door.post("/accounts/{accountName}/projects/new", form=new_project, action="project.create", conflict="name")
    async def create_project(visit: Visit) -> Response:
        name = visit.form.name("name", PROJECT_NAME, "1 to 64 of a-z, 0-9 and -")
        visit.form.check()
        project = await accounts.create_project(visit.work, visit.at("accountName"), name=name)
        url = account_url(visit, visit.at("accountName"), "buckets") + f"?project={project.name}"
        return visit.go(url, f"Project {project.name} is there, with a bucket for each environment.")

    @door.get("/accounts/{accountName}/projects/{projectName}/delete")
    async def ask_delete_project(visit: Visit) -> Response:
        require((await load(visit)).may_write, NO_ACCOUNT_WRITE)
        project = await accounts.get_project(visit.work, visit.at("accountName"), visit.at("projectName"))
        names = ", ".join(project.environments.values())
        return await confirm(
            visit,
            heading=f"Delete project {project.name}",
            lines=[
                f"Its buckets go with it: {names}.",
                "That is possible only while none of them has consumers. There is no way back.",
            ],
            button="Delete project",
            back=account_url(visit, visit.at("accountName"), "buckets") + f"?project={project.name}",
            typed=project.name,
        )

    @door.post(
        "/accounts/{accountName}/projects/{projectName}/delete", form=ask_delete_project, action="project.delete"
    )
    async def delete_project(visit: Visit) -> Response:
        visit.form.typed(visit.at("projectName"))
        await accounts.delete_project(visit.work, visit.at("accountName"), visit.at("projectName"))
        visit.is_awaited = True
        url = account_url(visit, visit.at("accountName"), "buckets")
        return visit.go(url, f"Project {visit.at('projectName')} and its buckets are deleted. There is no way back.")
