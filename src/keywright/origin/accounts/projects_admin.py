"""Projects of an account: making one with its buckets, and deleting it with them."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.names import PROJECT_NAME
from keywright.origin.accounts import rules as accounts
from keywright.origin.web.admin_layout import (
    ACCOUNT,
    MAY_NOT_WRITE_ACCOUNT,
    account_url,
    load_layout,
    render_confirmation,
    render_page,
    require,
)
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

PROJECTS = ACCOUNT + "/projects"


async def new_project(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    return await render_page(request, "accounts/project_new.html", form=request.form)


async def create(request: PageRequest) -> Response:
    name = request.form.name("name", PROJECT_NAME, "1 to 64 characters: a-z, 0-9 and -")
    request.form.check()
    project = await accounts.create_project(request.work, request.path_param("accountName"), name=name)
    url = account_url(request, request.path_param("accountName"), "buckets") + f"?project={project.name}"
    return request.redirect(url, f"Project {project.name} created, with a bucket for each environment.")


async def ask_delete(request: PageRequest) -> Response:
    require((await load_layout(request)).may_write, MAY_NOT_WRITE_ACCOUNT)
    project = await accounts.get_project(
        request.work, request.path_param("accountName"), request.path_param("projectName")
    )
    names = ", ".join(project.environments.values())
    return await render_confirmation(
        request,
        heading=f"Delete project {project.name}",
        lines=[
            f"This also deletes its buckets: {names}.",
            "It is only possible while none of them has consumers. This can't be undone.",
        ],
        button="Delete project",
        back=account_url(request, request.path_param("accountName"), "buckets") + f"?project={project.name}",
        typed=project.name,
    )


async def delete(request: PageRequest) -> Response:
    request.form.typed(request.path_param("projectName"))
    await accounts.delete_project(request.work, request.path_param("accountName"), request.path_param("projectName"))
    request.waits_for_edges = True
    url = account_url(request, request.path_param("accountName"), "buckets")
    return request.redirect(url, f"Project {request.path_param('projectName')} and its buckets deleted.")


ROUTES = (
    GetRoute(PROJECTS + "/new", new_project),
    PostRoute(
        PROJECTS + "/new",
        create,
        form=new_project,
        action="project.create",
        conflict="name",
    ),
    GetRoute(PROJECTS + "/{projectName}/delete", ask_delete),
    PostRoute(
        PROJECTS + "/{projectName}/delete",
        delete,
        form=ask_delete,
        action="project.delete",
    ),
)
