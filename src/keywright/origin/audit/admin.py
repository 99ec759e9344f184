"""The audit log of an account: who did what, when, and what was refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import Response

from keywright.origin.audit import rules as audit
from keywright.origin.audit.rules import AuditFilter
from keywright.origin.web.admin_layout import ACCOUNT, render_page
from keywright.origin.web.forms import Form
from keywright.origin.web.paging import offset_links, offset_page
from keywright.origin.web.request import PageRequest
from keywright.origin.web.routes import GetRoute

PAGE_SIZE = 50
OUTCOMES = {"": "Any outcome", "done": "Succeeded", "refused": "Refused"}


async def audit_log(request: PageRequest) -> Response:
    names = ("action", "actor", "outcome", "from", "to")
    form = Form.initial(**{name: request.query(name) for name in names})
    outcome = form.get("outcome")
    end = _day(form, "to")
    wanted = AuditFilter(
        form.get("action").strip() or None,
        form.get("actor").strip() or None,
        _day(form, "from"),
        end and end + timedelta(days=1) - timedelta(milliseconds=1),
        None if outcome not in {"done", "refused"} else outcome == "done",
    )
    part = offset_page(request, PAGE_SIZE)
    found, total = await audit.list_of(request.work, request.path_param("accountName"), wanted, part)
    return await render_page(
        request,
        "audit_log.html",
        found=found,
        form=form,
        outcomes=OUTCOMES,
        is_filtered=wanted != AuditFilter(),
        pages=offset_links(request, part, total),
    )


def _day(form: Form, name: str) -> datetime | None:
    """A date of the query, as midnight in UTC. One that is none is said to be so, and left out."""
    if not form.get(name):
        return None
    try:
        return datetime.strptime(form.get(name), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        form.fail(name, "must be a date, such as 2027-01-31")
        form.empty(name)
        return None


ROUTES = (GetRoute(ACCOUNT + "/audit-log", audit_log),)
