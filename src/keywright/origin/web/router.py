"""Owns what each request to a portal gets: session, actor, checked form, one transaction, audit entry, page.

A `PageRouter` is one portal: a prefix of addresses, a cookie, and a way to tell who is signed in. Its handlers receive
a `PageRequest` and return a response. What is sent is done once: a form has a number, and one that comes again leads to
where the first one led. After it was done the browser is sent on by a redirect, so that going back or reloading sends
nothing again. Whatever a handler raises becomes a page, or the form again with what is wrong beside its fields; then
nothing was changed.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect

from keywright.domain.problems import Forbidden, NotFound, Problem, TooManyRequests, Unauthorized
from keywright.origin.audit import rules as audit
from keywright.origin.auth import sessions
from keywright.origin.auth.sessions import Session
from keywright.origin.edges.rules import Outcome
from keywright.origin.pipeline import respond as refusals
from keywright.origin.pipeline import route as http
from keywright.origin.pipeline.context import request_source_of
from keywright.origin.pipeline.route import DatabaseUnavailable, RateLimiter, Services, Transaction
from keywright.origin.pipeline.unit_of_work import NOBODY, Actor, AuditDraft, UnitOfWork
from keywright.origin.web import cookies, rendering
from keywright.origin.web.forms import Form
from keywright.origin.web.request import PageRequest

Handler = Callable[[PageRequest], Awaitable[Response]]
Resume = Callable[[Transaction, str, Request, bool], Awaitable[tuple[Session, Actor] | None]]
"""Who acts at an address in the session of a token, or None if it is over; with `True` they are held until the
transaction ends."""

EDGES_SECONDS = 2.0
"""For how long a page waits for edges to apply what was done."""

SHOWN_AGAIN = frozenset({400, 403, 409, 429})
"""Refusals after which the form is shown again, with what was typed."""


class SentFromElsewhere(Forbidden):
    """Another site may have sent this form in the reader's name: what it says is not even shown."""


@dataclass(frozen=True, slots=True)
class Post:
    """What is known of an address that is sent to. `form` shows the page that the form is on."""

    handler: Handler
    form: Handler | None
    action: str | None
    """Its name in the audit log; None for what changes nothing."""
    conflict: str | None
    is_open: bool
    is_once: bool


class PageRouter:
    """One portal. `prefix` may have parts in braces, as in `/portal/{bucketName}`.

    `describe_outcome` tells its readers how far a change has got among the edges that are connected; `layout_template`
    is what stands around its pages.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        resume: Resume,
        describe_outcome: Callable[[Outcome], str],
        *,
        layout_template: str,
    ) -> None:
        self.name = name
        self.layout_template = layout_template
        self.prefix = prefix
        self.cookie = f"keywright-{name}"
        self.flash_cookie = f"keywright-{name}-notice"
        self.router = APIRouter()
        self._resume = resume
        self._describe_outcome = describe_outcome
        self.post("/theme", form=None, is_open=True, is_once=False)(_choose_theme)
        self.post("/sign-out", form=None, action=f"{name}.sign-out", is_once=False)(_sign_out)

    def get(self, path: str, *, is_open: bool = False) -> Callable[[Handler], Handler]:
        """A page. It needs somebody who is signed in, unless it `is_open`."""

        def register(handler: Handler) -> Handler:
            async def endpoint(request: Request) -> Response:
                return await self._answer_get(request, handler, is_open=is_open)

            self.router.add_route(self.prefix + path, endpoint, methods=["GET"], include_in_schema=False)
            return handler

        return register

    def post(
        self,
        path: str,
        *,
        form: Handler | None,
        action: str | None = None,
        conflict: str | None = None,
        is_open: bool = False,
        is_once: bool = True,
    ) -> Callable[[Handler], Handler]:
        """What a form is sent to. Refused, it is shown again by `form`, which also answers a GET of this address.

        `conflict` names the field whose value may be taken.
        """

        def register(handler: Handler) -> Handler:
            post = Post(handler, form, action, conflict, is_open, is_once)

            async def endpoint(request: Request) -> Response:
                return await self._answer_post(request, post)

            self.router.add_route(self.prefix + path, endpoint, methods=["POST"], include_in_schema=False)
            return handler

        return register

    def raw(self, path: str, handler: Callable[[Request], Awaitable[Response]]) -> None:
        """A page at a whole address that opens transactions of its own, since it waits for others meanwhile."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001
                return await self._tell(request, refusals.to_problem(error, request))

        self.router.add_route(path, endpoint, methods=["GET"], include_in_schema=False)

    async def open_request(self, request: Request, tx: Transaction, audit_draft: AuditDraft) -> PageRequest:
        """For a bare page: the visit in the transaction that it has opened."""
        services: Services = request.app.state.services
        return await self._open(request, services, tx, audit_draft)

    def close(self) -> APIRouter:
        """The routes, with a page for every other address under the prefix."""

        async def endpoint(request: Request) -> Response:
            return await self._tell(request, NotFound("There is no page at this address."))

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        self.router.add_route(self.prefix + "/{rest:path}", endpoint, methods=methods, include_in_schema=False)
        return self.router

    def base_of(self, request: Request) -> str:
        """Where the portal begins for this request; the root where its address does not tell."""
        if not all(f"{{{name}}}" not in self.prefix or name in request.path_params for name in ("bucketName",)):
            return "/"
        return self.prefix.format_map({name: quote(str(value), safe="") for name, value in request.path_params.items()})

    def safe(self, request: Request, url: str) -> str:
        """The address to go on to, if it leads into this portal; else where the portal begins."""
        base = self.base_of(request)
        is_inside = url == base or url.startswith((f"{base}/", f"{base}?"))
        return url if is_inside and url.isascii() and url.isprintable() else base

    async def _answer_get(self, request: Request, handler: Handler, *, is_open: bool) -> Response:
        services: Services = request.app.state.services
        try:
            async with services.database.read() as tx:
                visit = await self._open(request, services, tx, AuditDraft())
                if visit.session is None and not is_open:
                    return self._to_sign_in(request)
                if visit.session is not None:
                    http.limit_rate(visit.work.actor, services)
                response = await handler(visit)
            if visit.session is not None and sessions.is_to_be_touched(visit.session, visit.work.now):
                await _touch(services, visit.session)
        except Exception as error:  # noqa: BLE001
            return await self._tell(request, refusals.to_problem(error, request))
        return response

    async def _answer_post(self, request: Request, post: Post) -> Response:
        services: Services = request.app.state.services
        audit_draft = AuditDraft(post.action)
        actor, form = NOBODY, None
        try:
            async with services.database.read() as tx:
                visit = await self._open(request, services, tx, audit_draft)
            actor = visit.work.actor
            if visit.session is not None:
                http.limit_rate(actor, services)
            elif not post.is_open:
                raise Unauthorized("Your session has ended.")
            form = await Form.read(request)
            _check_sender(request, form, visit.token)
            return await self._work(request, services, post, audit_draft, form)
        except ClientDisconnect:
            # Nothing was done, and nobody is there to be told.
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001
            problem = refusals.to_problem(error, request)
            if post.action is not None and not isinstance(error, http.UNLOGGED):
                await http.log_refusal(request, services, actor, audit_draft, problem, source="portal")
            return await self._refuse(request, services, post, form, problem)

    async def _work(
        self, request: Request, services: Services, post: Post, audit_draft: AuditDraft, form: Form
    ) -> Response:
        async with services.database.write() as tx:
            # Once more, and held: the session's key may have been revoked while the form came in.
            visit = await self._open(request, services, tx, audit_draft, form, is_held=True)
            if visit.session is None and not post.is_open:
                raise Unauthorized("Your session has ended.")
            number = form.get("form")[:64]
            is_once = post.is_once and visit.session is not None
            if is_once and visit.session is not None:
                if not number:
                    raise SentFromElsewhere("The form lacks its number.")
                led_to = await sessions.claim_form(tx, visit.session, number)
                if led_to is not None:
                    text = "This form was sent twice. It was done once."
                    response = visit.redirect(self.safe(request, led_to), text, kind="warning")
                    visit.write_flash(response)
                    return response
            response = await post.handler(visit)
            if is_once and visit.session is not None:
                await sessions.note_location(tx, visit.session, number, visit.resend_url)
                if sessions.is_to_be_touched(visit.session, visit.work.now):
                    await sessions.touch(tx, visit.session, visit.work.now)
            origin = request_source_of(request, "portal")
            await audit.write(tx, actor=visit.work.actor, audit_draft=audit_draft, origin=origin, now=visit.work.now)
            tx.is_awaited = visit.waits_for_edges
        if tx.revision is not None:
            await services.bell(tx.revision)
            if visit.waits_for_edges and visit.flash_message is not None:
                outcome = await services.edges.wait(tx.revision, None, EDGES_SECONDS)
                visit.flash(self._describe_outcome(outcome), is_good=outcome.is_reached)
        if visit.after_commit is not None:
            text, is_good = await visit.after_commit()
            visit.flash(text, is_good=is_good)
        visit.write_flash(response)
        return response

    async def _refuse(
        self, request: Request, services: Services, post: Post, form: Form | None, problem: Problem
    ) -> Response:
        is_told = isinstance(problem, SentFromElsewhere) or problem.status not in SHOWN_AGAIN or _wants_json(request)
        if is_told or form is None or post.form is None:
            return await self._tell(request, problem)
        try:
            form.explain(problem, post.conflict)
            async with services.database.read() as tx:
                visit = await self._open(request, services, tx, AuditDraft(), form)
                response = await post.form(visit)
        except Exception as error:  # noqa: BLE001
            return await self._tell(request, refusals.to_problem(error, request))
        if response.status_code == 200:
            response.status_code = problem.status
        return response

    async def _open(
        self,
        request: Request,
        services: Services,
        tx: Transaction,
        audit_draft: AuditDraft,
        form: Form | None = None,
        *,
        is_held: bool = False,
    ) -> PageRequest:
        token = cookies.read(request, self.cookie)
        found = await self._resume(tx, token, request, is_held) if token else None
        now = services.dependencies.clock()
        if found is not None:
            session, actor = found
            return PageRequest(
                self,
                request,
                UnitOfWork(tx, actor, now, services.dependencies, audit_draft),
                token,
                session,
                form or Form({}),
            )
        token = cookies.read(request, cookies.VISITOR)
        is_new = not token
        if is_new:
            token = sessions.new_token(services.dependencies.random_bytes).reveal()
        work = UnitOfWork(tx, NOBODY, now, services.dependencies, audit_draft)
        return PageRequest(self, request, work, token, None, form or Form({}), _is_new_visitor=is_new)

    def _to_sign_in(self, request: Request) -> Response:
        had_session = bool(cookies.read(request, self.cookie))
        response = RedirectResponse(self._sign_in_url(request, had_session), 303, headers=rendering.HEADERS)
        if had_session:
            cookies.delete(request, response, self.cookie)
        return response

    def _sign_in_url(self, request: Request, had_session: bool) -> str:
        base = self.base_of(request)
        query = request.scope.get("query_string", b"").decode("latin-1")
        path = quote(request.scope["path"], safe="/-._~")
        here = f"{path}?{query}" if query else path
        wanted = [] if here == base else [f"next={quote(here, safe='')}"]
        ended = ["ended=1"] if had_session else []
        parameters = "&".join(wanted + ended)
        return f"{base}/sign-in?{parameters}" if parameters else f"{base}/sign-in"

    async def _tell(self, request: Request, problem: Problem) -> Response:
        """The page of a refusal. It asks no database: that may be what is missing."""
        if _wants_json(request):
            return refusals.render(problem, request)
        values = {
            "base": self.base_of(request),
            "theme": cookies.theme_of(request),
            "problem": problem,
            "is_post": request.method == "POST",
            "request_id": request.state.request_id,
            "sign_in_url": self._sign_in_url(request, had_session=True) if problem.status == 401 else "",
        }
        body = await rendering.render("problem.html", values)
        headers = {**rendering.HEADERS, **problem.headers}
        # A challenge would have the browser ask for a password that nobody has.
        headers.pop("WWW-Authenticate", None)
        return Response(body, problem.status, headers=headers, media_type="text/html")


def limit(limiter: RateLimiter, name: str, words: str) -> None:
    """Raises TooManyRequests when `name` asks for too much at once."""
    wait = limiter.take(name, time.monotonic())
    if wait > 0:
        raise TooManyRequests(f"{words} Try again in {int(wait) + 1} s.", headers={"Retry-After": str(int(wait) + 1)})


def _check_sender(request: Request, form: Form, token: str) -> None:
    """Raises SentFromElsewhere unless a page of ours, made for this browser, has sent this form."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    is_other = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if is_other or site not in {"same-origin", "none"}:
        raise SentFromElsewhere("The form was not sent by a page of this portal, so it was not taken.")
    if not hmac.compare_digest(form.get("csrf").encode(), cookies.csrf_of(token).encode()):
        raise SentFromElsewhere(
            "The form was made before you signed in, or for another session. Open the page anew and send it again."
        )


def _wants_json(request: Request) -> bool:
    return request.headers.get("accept", "") == "application/json"


async def _touch(services: Services, session: Session) -> None:
    try:
        async with services.database.write() as tx:
            await sessions.touch(tx, session, services.dependencies.clock())
    except DatabaseUnavailable as error:
        # The page is there; that the session counts as disused a minute earlier is no reason to withhold it.
        refusals.log.warning("a session could not be kept in use: %s", error)


async def _choose_theme(visit: PageRequest) -> Response:
    theme = visit.form.choice("theme", cookies.THEMES)
    response = visit.redirect(visit.router.safe(visit.http_request, visit.form.get("next")))
    cookies.write(visit.http_request, response, cookies.THEME, theme, seconds=cookies.YEAR_SECONDS)
    return response


async def _sign_out(visit: PageRequest) -> Response:
    visit.work.audit_draft.account_id = visit.work.actor.grantee.account_id or None
    return await visit.sign_out(f"{visit.base}/sign-in?left=1")
