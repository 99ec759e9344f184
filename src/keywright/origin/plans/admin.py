"""Plans of a bucket: the list, making, changing and deleting one."""

from __future__ import annotations

from fastapi import Response

from keywright.domain.limits import NAME
from keywright.domain.paging import Page
from keywright.domain.unset import UNSET, updated
from keywright.origin.plans import rules as plans
from keywright.origin.plans.rules import PlanDraft, PlanView
from keywright.origin.quotas.fields import PERIODS, quota_fields, read_quotas
from keywright.origin.web.admin_layout import (
    BUCKET,
    MAY_NOT_WRITE,
    BucketLayout,
    bucket_path,
    bucket_url,
    get_bucket_layout,
    render_bucket_page,
    render_confirmation,
    require,
)
from keywright.origin.web.forms import Form, scope_fields
from keywright.origin.web.limit_fields import LIMIT_SCOPES, NAME_WORDS, ROWS, rate_limit_fields, read_rate_limits
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute, PostRoute

PLANS = BUCKET + "/plans"
PLAN = PLANS + "/{planName}"
ALL = Page(limit=plans.MAX_PLANS)


async def plan_list(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    views, _ = await plans.list_of(request.work, *bucket_path(request), ALL)
    return await render_bucket_page(request, "plans/list.html", layout, views=views, most=plans.MAX_PLANS)


async def new_plan(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    form = request.form.or_initial(**scope_fields(None), **rate_limit_fields(None), **quota_fields(None))
    return await _render_form(request, layout, form, None)


async def create(request: PageRequest) -> Response:
    form = request.form
    draft = PlanDraft(
        form.name("name", NAME, NAME_WORDS),
        form.description(),
        updated(form.own_scopes(), None),
        updated(read_rate_limits(form), None) or None,
        updated(read_quotas(form), None) or None,
    )
    form.check()
    await plans.create(request.work, *bucket_path(request), draft)
    return request.redirect(_url(request), f"Plan {draft.name} created. You can give it to consumers now.")


async def edit(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    view = await plans.get(request.work, *_path(request))
    form = request.form.or_initial(
        description=view.plan.description,
        **scope_fields(view.plan.scopes),
        **rate_limit_fields(view.plan.rate_limits),
        **quota_fields(view.plan.quotas),
    )
    return await _render_form(request, layout, form, view)


async def _render_form(request: PageRequest, layout: BucketLayout, form: Form, view: PlanView | None) -> Response:
    return await render_bucket_page(
        request,
        "plans/form.html",
        layout,
        form=form,
        view=view,
        rows=ROWS,
        limit_scopes=LIMIT_SCOPES,
        quota_periods=PERIODS,
    )


async def update(request: PageRequest) -> Response:
    form = request.form
    description, scopes, rate_limits = form.description(), form.own_scopes(), read_rate_limits(form)
    quotas = read_quotas(form)
    form.check()
    await plans.update(
        request.work,
        *_path(request),
        description=description,
        scopes=scopes,
        rate_limits=rate_limits or None,
        quotas=quotas if quotas is UNSET else quotas or None,
    )
    request.waits_for_edges = True
    name = request.path_param("planName")
    return request.redirect(_url(request), f"Plan {name} saved.", href=_url(request, name, "edit"), link="Edit again")


async def ask_delete(request: PageRequest) -> Response:
    layout = await get_bucket_layout(request)
    require(layout.may_write, MAY_NOT_WRITE)
    view = await plans.get(request.work, *_path(request))
    held = "1 consumer has" if view.consumers == 1 else f"{view.consumers:,} consumers have"
    in_use = f"{held} it. A plan can't be deleted before they have another one, or none."
    return await render_confirmation(
        request,
        heading=f"Delete plan {view.plan.name}",
        lines=[in_use if view.consumers else "No consumer has it.", "This can't be undone."],
        button="Delete plan",
        back=_url(request),
    )


async def delete(request: PageRequest) -> Response:
    await plans.delete(request.work, *_path(request))
    return request.redirect(_url(request), f"Plan {request.path_param('planName')} deleted.")


def _path(request: PageRequest) -> tuple[str, str, str]:
    return *bucket_path(request), request.path_param("planName")


def _url(request: PageRequest, *parts: str) -> str:
    return bucket_url(request, "plans", *parts)


ROUTES = (
    GetRoute(PLANS, plan_list),
    GetRoute(BUCKET + "/plans/new", new_plan),
    PostRoute(BUCKET + "/plans/new", create, form=new_plan, action="plan.create", conflict="name"),
    GetRoute(PLAN + "/edit", edit),
    PostRoute(PLAN + "/edit", update, form=edit, action="plan.update"),
    GetRoute(PLAN + "/delete", ask_delete),
    PostRoute(PLAN + "/delete", delete, form=ask_delete, action="plan.delete"),
)
