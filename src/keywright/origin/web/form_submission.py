"""Owns what becomes of a sent form: the steps from its bytes to the page that tells what was done, in their order.

authenticate -> rate limit -> check the rights -> read the form -> check its sender -> one transaction (authenticate
again, claim the form's number, handler, audit entry) -> publish -> flash message. Whatever goes wrong becomes the form
again with what is wrong beside its fields, or a page that tells why; then nothing was changed.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from keywright.domain.problems import Forbidden, Problem, Unauthorized
from keywright.origin.audit import rules as audit
from keywright.origin.auth import sessions
from keywright.origin.auth.actors import NOBODY
from keywright.origin.db.disk_space import make_room
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.reach import Touched
from keywright.origin.pipeline.authenticate import meter_of
from keywright.origin.pipeline.body import most_bytes
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.publish import publish
from keywright.origin.pipeline.rate_limit import Meter
from keywright.origin.pipeline.request import UNLOGGED, log_refusal
from keywright.origin.pipeline.respond import to_problem
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft
from keywright.origin.web import cookies
from keywright.origin.web.forms import Form
from keywright.origin.web.request import PageRequest, wants_json
from keywright.origin.web.routes import PostRoute

if TYPE_CHECKING:
    from keywright.origin.web.router import PageRouter
    from keywright.origin.web.routes import Handler

EDGES_SECONDS = 2.0
"""For how long a page waits for edges to apply what was done."""

SHOWN_AGAIN = frozenset({400, 403, 409, 429})
"""Refusals after which the form is shown again, with what was typed."""


class ForgedForm(Forbidden):
    """Another site may have sent this form in the reader's name: what it says is not even shown."""


class StaleForm(Forbidden):
    """A page of ours has sent this form, but one that was opened before its reader signed in."""


class FormSubmission:
    """One form on its way through the steps."""

    def __init__(self, router: PageRouter, route: PostRoute, http_request: Request) -> None:
        self._router = router
        self._route = route
        self._http_request = http_request
        self._services: Services = http_request.app.state.services
        self._audit_draft = AuditDraft(route.action)
        self._actor = NOBODY
        self._form: Form | None = None
        self._meter: Meter | None = None

    async def answer(self) -> Response:
        try:
            token = await self._authenticate()
            make_room(self._services.disk, self._route.action)
            self._form = await self._read_form()
            _check_sender(self._http_request, self._form, token)
            return await self._run(self._form)
        except ClientDisconnect:
            # Nothing was done, and nobody is there to be told.
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001
            return await self._refuse(error)

    async def _authenticate(self) -> str:
        """Who sends, and may, before anything of the form is read; the token that the form must be made for."""
        async with self._services.database.read() as tx:
            request = await self._router.open_request(self._http_request, tx, self._audit_draft)
            self._actor = request.work.actor
            if request.session is not None:
                self._meter = meter_of(self._actor, self._services)
                self._meter.check()
            self._check_session(request)
            if not self._route.is_open:
                admission = self._route.admission or self._router.admission
                await admission(request.work, self._http_request.path_params)
        return request.token

    async def _read_form(self) -> Form:
        most = most_bytes(self._route.action, self._services.dependencies.limits)
        return await Form.read(self._http_request, most, self._meter)

    def _check_session(self, request: PageRequest) -> None:
        if request.session is None and not self._route.is_open:
            raise Unauthorized("Your session has expired.")

    async def _run(self, form: Form) -> Response:
        async with self._services.database.write() as tx:
            # Once more, and held: the session's key may have been revoked while the form came in.
            request = await self._router.open_request(self._http_request, tx, self._audit_draft, form, is_held=True)
            self._check_session(request)
            if self._route.is_once and request.session is not None:
                number = _number_of(form)
                first_url = await sessions.claim_form(tx, request.session, number)
                if first_url is not None:
                    return self._answer_duplicate(request, first_url)
                response = await self._route.handler(request)
                await sessions.note_location(tx, request.session, number, request.resend_url)
                if sessions.is_to_be_touched(request.session, request.work.now):
                    await sessions.touch(tx, request.session, request.work.now)
            else:
                response = await self._route.handler(request)
            await self._log(tx, request)
            tx.is_awaited = request.waits_for_edges
        await self._publish(request, tx.revision, Touched.by(tx, self._audit_draft.account_id))
        request.write_flash(response)
        return response

    def _answer_duplicate(self, request: PageRequest, first_url: str) -> Response:
        text = "This form was sent twice. It was processed once."
        response = request.redirect(request.safe_url(first_url), text, kind="warning")
        request.write_flash(response)
        return response

    async def _log(self, tx: Transaction, request: PageRequest) -> None:
        source = request_source_of(self._http_request, "portal")
        await audit.write(
            tx, actor=request.work.actor, audit_draft=self._audit_draft, source=source, now=request.work.now
        )

    async def _publish(self, request: PageRequest, revision: int | None, touched: Touched) -> None:
        """Makes a change known to the edges, does what was left for after the commit, and tells of both."""
        if revision is not None:
            await publish(self._services, revision)
            if request.waits_for_edges and request.flash_message is not None:
                outcome = await self._services.edges.wait(revision, None, EDGES_SECONDS, touched)
                request.flash(self._router.describe_outcome(outcome), is_good=outcome.is_reached)
        if request.after_commit is not None:
            text, is_good = await request.after_commit()
            request.flash(text, is_good=is_good)

    async def _refuse(self, error: Exception) -> Response:
        problem = to_problem(error, self._http_request)
        if self._route.action is not None and not isinstance(error, UNLOGGED):
            await log_refusal(
                self._http_request, self._services, self._actor, self._audit_draft, problem, source="portal"
            )
        is_shown_again = problem.status in SHOWN_AGAIN and not isinstance(problem, ForgedForm)
        if is_shown_again and self._form and self._route.form and not wants_json(self._http_request):
            try:
                return await self._show_again(self._route.form, self._form, problem)
            except Exception as another:  # noqa: BLE001
                problem = to_problem(another, self._http_request)
        kept = await self._kept() if isinstance(problem, Unauthorized) else None
        return await self._router.render_problem(self._http_request, problem, kept)

    async def _kept(self) -> Form | None:
        """What somebody typed whose session has ended: it is theirs to send again. Of a page of ours alone."""
        if self._route.form is None or wants_json(self._http_request) or not _is_from_here(self._http_request):
            return None
        if self._form is None:
            with suppress(Problem, ClientDisconnect):
                self._form = await self._read_form()
        return self._form

    async def _show_again(self, handler: Handler, form: Form, problem: Problem) -> Response:
        """The page that the form is on, with what is wrong beside the fields."""
        form.explain(problem, self._route.conflict)
        async with self._services.database.read() as tx:
            request = await self._router.open_request(self._http_request, tx, AuditDraft(), form)
            response = await handler(request)
        if response.status_code == 200:
            response.status_code = problem.status
        return response


def _number_of(form: Form) -> str:
    number = form.get("form")[:64]
    if not number:
        raise ForgedForm("The form is not complete. Reload the page and try again.")
    return number


def _check_sender(http_request: Request, form: Form, token: str) -> None:
    """Raises ForgedForm unless a page of ours, made for this browser, has sent this form."""
    site = http_request.headers.get("sec-fetch-site", "same-origin")
    if _is_other_origin(http_request) or site not in {"same-origin", "none"}:
        raise ForgedForm("The form was not sent from a page of this portal, so it was rejected.")
    if not hmac.compare_digest(form.get("csrf").encode(), cookies.csrf_of(token).encode()):
        if _is_from_here(http_request):
            raise StaleForm("You have signed in or out since this form was opened. Check it, then send it again.")
        raise ForgedForm("This form is out of date: you have signed in or out since. Reload the page and try again.")


def _is_other_origin(http_request: Request) -> bool:
    origin = http_request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != http_request.headers.get("host", "").lower()


def _is_from_here(http_request: Request) -> bool:
    """Whether the browser itself says that a page of this origin has sent the form: what it holds may be shown."""
    site = http_request.headers.get("sec-fetch-site")
    is_said = site == "same-origin" or (site is None and http_request.headers.get("origin") is not None)
    return is_said and not _is_other_origin(http_request)
