"""Owns one request to a portal as its handlers see it: who comes, what was sent, and the ways to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from keywright.origin.auth import sessions
from keywright.origin.auth.actors import Actor
from keywright.origin.auth.attempts import Attempt
from keywright.origin.auth.sessions import Session, SignedIn
from keywright.origin.edges.registry import Edges
from keywright.origin.pipeline.context import client_address_of
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.web import browsers, cookies, rendering
from keywright.origin.web.cookies import Flash
from keywright.origin.web.forms import Form

if TYPE_CHECKING:
    from keywright.origin.web.router import PageRouter
    from keywright.origin.web.routes import Limit, RateLimit

Counts = TypeVar("Counts")


@dataclass(slots=True)
class PageRequest:
    """A request with its open unit of work. `session` is None for a stranger; `form` is empty until one is sent."""

    router: PageRouter
    http_request: Request
    work: UnitOfWork
    token: str
    """The session's or, of a stranger, one of this browser: forms and flash messages are bound to it."""
    session: Session | None
    form: Form
    resend_url: str = ""
    """Where to lead whoever sends the same form again. `redirect` sets it; a page that answers a form does by hand."""
    flash_message: Flash | None = None
    """What the next page tells; its cookie is written when all is done."""
    waits_for_edges: bool = False
    """Whether the answer waits until the edges have applied what was done, and says so in the flash message."""
    after_commit: Callable[[], Awaitable[tuple[str, bool]]] | None = None
    """What is done once everything is committed: it returns what to tell of it, and whether that is good news."""
    _is_new_visitor: bool = field(default=False)

    def path_param(self, name: str) -> str:
        """A part of the address, by the name that its route gives it."""
        value: str = self.http_request.path_params[name]
        return value

    def query(self, name: str) -> str:
        """A parameter of the query, empty if it is not there. What can't be text is not."""
        value = self.http_request.query_params.get(name, "")
        return value if value.isprintable() else ""

    @property
    def base(self) -> str:
        """Where this portal begins."""
        return self.router.base_of(self.http_request)

    @property
    def wants_json(self) -> bool:
        return wants_json(self.http_request)

    @property
    def id(self) -> str:
        """The request id, as logs have it."""
        request_id: str = self.http_request.state.request_id
        return request_id

    @property
    def client_address(self) -> str:
        """The IP address of whoever asks; empty if the server does not tell it."""
        return client_address_of(self.http_request)

    def attempt(self, subject: str = "") -> Attempt:
        """A try to sign in from this browser, as `subject` where that is known beforehand."""
        token = cookies.read(self.http_request, self.router.known_cookie)
        digester = self.work.dependencies.digester
        known = browsers.known_as(digester, token, self.router.name, subject)
        return Attempt(self.token, self.client_address, known)

    def limit(self, rate_limit: RateLimit, name: str) -> None:
        """Counts one use by `name`. Raises TooManyRequests when it is over the limit."""
        self.router.limit(rate_limit, name)

    def counts(self, limit: Limit[Counts]) -> Counts:
        """What is counted under a limit, in this process."""
        return self.router.counts(limit)

    def safe_url(self, url: str) -> str:
        """The address to go on to, if it leads into this portal; else where the portal begins."""
        return self.router.safe_url(self.http_request, url)

    async def render(self, template: str, /, status: int = 200, **values: Any) -> Response:
        """A page; it has what every page has besides `values`."""
        flash = cookies.read_flash(self.http_request, self.router.flash_cookie, self.token)
        shared = {
            "base": self.base,
            "layout_template": self.router.layout_template,
            "path": self.http_request.scope["path"],
            "current_url": self.current_url,
            "theme": cookies.theme_of(self.http_request),
            "csrf": cookies.csrf_of(self.token),
            "session": self.session,
            "actor": self.work.actor,
            "now": self.work.now,
            "flash": flash,
            "form": self.form,
        }
        body = await rendering.render(template, {**shared, **values})
        response = Response(body, status, headers=rendering.HEADERS, media_type="text/html")
        if flash is not None:
            cookies.delete(self.http_request, response, self.router.flash_cookie)
        self._remember_visitor(response)
        return response

    def redirect(self, url: str, text: str = "", *, href: str = "", link: str = "", kind: str = "done") -> Response:
        """Sends the browser on after something was done, and has the next page tell what."""
        self.resend_url = url
        response = RedirectResponse(url, 303, headers=rendering.HEADERS)
        told, self.flash_message = self.flash_message, Flash(text, href, link, kind) if text else None
        if told is not None:
            self.flash(told.text, is_good=told.kind == "done")
        self._remember_visitor(response)
        return response

    def flash(self, words: str, *, is_good: bool = True) -> None:
        """Adds a sentence to what the next page tells; bad news makes all of it a warning."""
        told = self.flash_message or Flash("")
        self.flash_message = replace(
            told, text=f"{told.text} {words}".lstrip(), kind=told.kind if is_good else "warning"
        )

    def write_flash(self, response: Response) -> None:
        """Has the next page tell what was done, and what came of it."""
        if self.flash_message is not None:
            cookies.write_flash(self.http_request, response, self.router.flash_cookie, self.token, self.flash_message)

    @property
    def services(self) -> Services:
        services: Services = self.http_request.app.state.services
        return services

    @property
    def edges(self) -> Edges:
        return self.services.edges

    def json(self, **values: Any) -> Response:
        return JSONResponse(values, headers=rendering.HEADERS)

    @property
    def current_url(self) -> str:
        """The address as it was asked for, to come back to."""
        query = self.http_request.scope.get("query_string", b"").decode("latin-1")
        path = quote(self.http_request.scope["path"], safe="/-._~%")
        return f"{path}?{query}" if query else path

    async def sign_in(self, who: SignedIn, url: str, actor: Actor) -> Response:
        """Begins a session under a new token, whatever the browser brought along, and sends it on."""
        # The entry in the audit log is of whoever signed in, not of the stranger who sent the form.
        self.work = replace(self.work, actor=actor)
        if self.session is not None:
            await sessions.end(self.work.tx, self.session)
        token = await sessions.start(self.work.tx, self.work.dependencies, self.router.name, who)
        response = RedirectResponse(url, 303, headers=rendering.HEADERS)
        cookies.write(self.http_request, response, self.router.cookie, token.reveal())
        cookies.delete(self.http_request, response, cookies.VISITOR)
        self._remember_browser(response, (who.email or "") if who.bucket_number is not None else "")
        return response

    async def sign_out(self, url: str) -> Response:
        if self.session is not None:
            await sessions.end(self.work.tx, self.session)
        response = RedirectResponse(url, 303, headers=rendering.HEADERS)
        cookies.delete(self.http_request, response, self.router.cookie)
        return response

    def _remember_browser(self, response: Response, subject: str) -> None:
        """Has this browser not be counted among strangers the next time."""
        if not self.attempt(subject).known:
            dependencies = self.work.dependencies
            known = browsers.new_known(dependencies.digester, dependencies.random_bytes, self.router.name, subject)
            cookies.write(self.http_request, response, self.router.known_cookie, known, seconds=cookies.YEAR_SECONDS)

    def _remember_visitor(self, response: Response) -> None:
        if self._is_new_visitor:
            cookies.write(self.http_request, response, cookies.VISITOR, self.token)


def wants_json(http_request: Request) -> bool:
    """Whether our own script asks, rather than a reader."""
    return http_request.headers.get("accept", "") == "application/json"
