"""Owns one portal's routes, and what each request to it gets: a session, an actor, a transaction, a page.

A `PageRouter` is one portal: a prefix of addresses, a cookie, and a way to tell who is signed in. Its handlers receive
a `PageRequest` and return a response. What a form sends goes the way of form_submission.py. Whatever a handler raises
becomes a page.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from keywright.domain.problems import NotFound, Problem
from keywright.origin.auth import sessions
from keywright.origin.auth.actors import NOBODY, Actor
from keywright.origin.auth.sessions import Session
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline.authenticate import meter_of
from keywright.origin.pipeline.body import Admission
from keywright.origin.pipeline.rate_limit import check_rate, detail_of
from keywright.origin.pipeline.respond import render, to_problem
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.origin.web import browsers, cookies, rendering
from keywright.origin.web.form_submission import FormSubmission
from keywright.origin.web.forms import Form
from keywright.origin.web.request import PageRequest, wants_json
from keywright.origin.web.routes import GetRoute, Limit, PageRoute, PostRoute, RateLimit, RawRoute

Counts = TypeVar("Counts")

Resume = Callable[[Transaction, str, Request, bool], Awaitable[tuple[Session, Actor] | None]]
"""Who acts at an address in the session of a token, or None if it is over; with `True` they are held until the
transaction ends."""

log = logging.getLogger("keywright.origin")

NEVER_BRANDED = frozenset({429, 500, 503})
"""Refusals that are told without another question to the database."""
ALL_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class PageRouter:
    """One portal. `prefix` may have parts in braces, as in `/portal/{bucketName}`.

    `describe_outcome` tells its readers how far a change has got among the edges that are connected; `layout_template`
    is what stands around its pages, and `frame_of` gives what stands around those that say why something was refused.
    `admission` says who may send a form to an address, before the form is read.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        resume: Resume,
        describe_outcome: Callable[[Outcome], str],
        routes: Iterable[PageRoute],
        *,
        admission: Admission,
        layout_template: str,
        frame_of: Callable[[UnitOfWork, Request], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self.name = name
        self.layout_template = layout_template
        self.prefix = prefix
        self.cookie = f"keywright-{name}"
        self.flash_cookie = f"keywright-{name}-notice"
        self.known_cookie = f"keywright-{name}-known"
        self.describe_outcome = describe_outcome
        self.admission = admission
        self._resume = resume
        self._frame_of = frame_of
        self._counts: dict[object, Any] = {}
        self.router = APIRouter()
        for route in (*self._shared_routes(), *routes):
            self._add(route)
        # Every other address under the prefix has a page that says so.
        self.router.add_route(prefix + "/{rest:path}", self._not_found, methods=ALL_METHODS, include_in_schema=False)

    def _shared_routes(self) -> tuple[PageRoute, ...]:
        return (
            PostRoute("/theme", choose_theme, form=None, is_open=True, is_once=False),
            PostRoute("/sign-out", sign_out, form=None, action=f"{self.name}.sign-out", is_once=False),
        )

    def _add(self, route: PageRoute) -> None:
        async def endpoint(http_request: Request) -> Response:
            match route:
                case GetRoute():
                    return await self._answer_get(http_request, route)
                case PostRoute():
                    return await FormSubmission(self, route, http_request).answer()
                case RawRoute():
                    return await self._answer_raw(http_request, route)

        path = route.path if isinstance(route, RawRoute) and route.is_absolute else self.prefix + route.path
        methods = ["POST" if isinstance(route, PostRoute) else "GET"]
        self.router.add_route(path, endpoint, methods=methods, include_in_schema=False)

    async def open_request(
        self,
        http_request: Request,
        tx: Transaction,
        audit_draft: AuditDraft,
        form: Form | None = None,
        *,
        is_held: bool = False,
    ) -> PageRequest:
        """The request in this transaction: in the session of its cookie, or a stranger's."""
        services: Services = http_request.app.state.services
        token = cookies.read(http_request, self.cookie)
        found = await self._resume(tx, token, http_request, is_held) if token else None
        session, actor = found or (None, NOBODY)
        is_new_visitor = False
        if session is None:
            token = cookies.read(http_request, cookies.VISITOR)
            digester = services.dependencies.digester
            is_new_visitor = not browsers.is_visitor(digester, token)
            if is_new_visitor:
                token = browsers.new_visitor(digester, services.dependencies.random_bytes)
        work = UnitOfWork(tx, actor, services.dependencies.clock(), services.dependencies, audit_draft)
        return PageRequest(self, http_request, work, token, session, form or Form({}), _is_new_visitor=is_new_visitor)

    def base_of(self, http_request: Request) -> str:
        """Where the portal begins for this request; the root where its address does not tell."""
        if "{bucketName}" in self.prefix and "bucketName" not in http_request.path_params:
            return "/"
        names = {name: quote(str(value), safe="") for name, value in http_request.path_params.items()}
        return self.prefix.format_map(names)

    def safe_url(self, http_request: Request, url: str) -> str:
        """The address to go on to, if it leads into this portal; else where the portal begins."""
        base = self.base_of(http_request)
        is_inside = url == base or url.startswith((f"{base}/", f"{base}?"))
        return url if is_inside and url.isascii() and url.isprintable() and not _climbs(url) else base

    def limit(self, rate_limit: RateLimit, name: str) -> None:
        """Counts one use by `name`. Raises TooManyRequests when it is over the limit."""
        check_rate(self.counts(rate_limit), name, detail_of(rate_limit.message))

    def counts(self, limit: Limit[Counts]) -> Counts:
        """What is counted under a limit, in this process."""
        if limit not in self._counts:
            self._counts[limit] = limit.new()
        counts: Counts = self._counts[limit]
        return counts

    async def render_problem(self, http_request: Request, problem: Problem, kept: Form | None = None) -> Response:
        """The page of a refusal, with what was typed in a form that can be sent again (`kept`).

        It goes without the database, except for the brand, which it then does without: that may be what is missing.
        """
        if wants_json(http_request):
            return render(problem, http_request)
        values = {
            "layout": "standalone.html",
            **(await self._find_frame(http_request) if problem.status not in NEVER_BRANDED else {}),
            "kept": kept.kept() if kept is not None else [],
            "path": http_request.scope["path"],
            "base": self.base_of(http_request),
            "theme": cookies.theme_of(http_request),
            "problem": problem,
            "is_post": http_request.method == "POST",
            "request_id": http_request.state.request_id,
            "sign_in_url": self._sign_in_url(http_request, had_session=True) if problem.status == 401 else "",
        }
        if values["kept"]:
            # In another tab, which needs to lead nowhere.
            values["sign_in_url"] = f"{self.base_of(http_request)}/sign-in"
        body = await rendering.render("problem.html", values)
        headers = {**rendering.HEADERS, **problem.headers}
        # A challenge would have the browser ask for a password that nobody has.
        headers.pop("WWW-Authenticate", None)
        return Response(body, problem.status, headers=headers, media_type="text/html")

    async def _find_frame(self, http_request: Request) -> Mapping[str, Any]:
        """What stands around a page of a refusal, by names of its template; nothing where it can't be told."""
        if self._frame_of is None:
            return {}
        services: Services = http_request.app.state.services
        try:
            async with services.database.read() as tx:
                work = UnitOfWork(tx, NOBODY, services.dependencies.clock(), services.dependencies, AuditDraft())
                return await self._frame_of(work, http_request)
        except (Problem, DatabaseUnavailable):
            return {}

    async def _answer_get(self, http_request: Request, route: GetRoute) -> Response:
        services: Services = http_request.app.state.services
        try:
            async with services.database.read() as tx:
                request = await self.open_request(http_request, tx, AuditDraft())
                if request.session is None and not route.is_open:
                    return self._redirect_to_sign_in(http_request)
                if request.session is not None:
                    meter_of(request.work.actor, services).check()
                response = await route.handler(request)
            if request.session is not None and sessions.is_to_be_touched(request.session, request.work.now):
                await _touch(services, request.session)
        except Exception as error:  # noqa: BLE001
            return await self.render_problem(http_request, to_problem(error, http_request))
        return response

    async def _answer_raw(self, http_request: Request, route: RawRoute) -> Response:
        try:
            return await route.handler(self, http_request)
        except Exception as error:  # noqa: BLE001
            return await self.render_problem(http_request, to_problem(error, http_request))

    async def _not_found(self, http_request: Request) -> Response:
        return await self.render_problem(http_request, NotFound("There is no page at this address."))

    def _redirect_to_sign_in(self, http_request: Request) -> Response:
        had_session = bool(cookies.read(http_request, self.cookie))
        response = RedirectResponse(self._sign_in_url(http_request, had_session), 303, headers=rendering.HEADERS)
        if had_session:
            cookies.delete(http_request, response, self.cookie)
        return response

    def _sign_in_url(self, http_request: Request, had_session: bool) -> str:
        base = self.base_of(http_request)
        query = http_request.scope.get("query_string", b"").decode("latin-1")
        path = quote(http_request.scope["path"], safe="/-._~")
        current_url = f"{path}?{query}" if query else path
        wanted = [] if current_url == base else [f"next={quote(current_url, safe='')}"]
        ended = ["ended=1"] if had_session else []
        parameters = "&".join(wanted + ended)
        return f"{base}/sign-in?{parameters}" if parameters else f"{base}/sign-in"


async def choose_theme(request: PageRequest) -> Response:
    theme = request.form.choice("theme", cookies.THEMES)
    response = request.redirect(request.safe_url(request.form.get("next")))
    cookies.write(request.http_request, response, cookies.THEME, theme, seconds=cookies.YEAR_SECONDS)
    return response


async def sign_out(request: PageRequest) -> Response:
    request.work.audit_draft.account_id = request.work.actor.grantee.account_id or None
    return await request.sign_out(f"{request.base}/sign-in?left=1")


async def _touch(services: Services, session: Session) -> None:
    try:
        async with services.database.write() as tx:
            await sessions.touch(tx, session, services.dependencies.clock())
    except DatabaseUnavailable as error:
        # The page is there; that the session counts as disused a minute earlier is no reason to withhold it.
        log.warning("a session could not be kept in use: %s", error)


def _climbs(url: str) -> bool:
    """Whether a browser would go up from there. `%2e` is a dot there, and a backslash a slash (URL Standard)."""
    path = url.partition("#")[0].partition("?")[0]
    return "\\" in path or any(unquote(segment) in {".", ".."} for segment in path.split("/"))
