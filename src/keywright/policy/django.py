"""Owns the policy in Django: its settings, the middleware, and the consumer as Django's code asks for a user.

    KEYWRIGHT = {"SOURCE": "mysite.keys.source", "BUCKET_NAME": "my-bucket"}
    MIDDLEWARE = [..., "keywright.policy.django.ApiKeyMiddleware"]

    @require_scopes("orders:read")
    def orders(request): ...

The settings are read, and the source is imported, at the first request: commands and tests need neither replica nor
pepper. The Django REST Framework's part is drf.py, which has the same settings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpResponse
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy import wsgi
from keywright.policy.rules import sources
from keywright.policy.rules.charges import NO_CHARGE, Charge, charge_of, charging
from keywright.policy.rules.demands import checked
from keywright.policy.rules.gate import Gate, Refused, limit_fields
from keywright.policy.rules.identity import Anonymous, Credential, User

if TYPE_CHECKING:
    from django.http import HttpRequest

    from keywright.domain.problems import Problem
    from keywright.policy.rules.charges import Settlement
    from keywright.policy.rules.sources import Source

SETTINGS = "KEYWRIGHT"
View = TypeVar("View", bound=Callable[..., Any])
_gates: dict[str, Gate] = {}
_has_charges = False
"""Whether any view says what it takes: only then is it looked for."""


class DjangoUser(User):
    """A User with what Django's and the framework's permissions and throttles ask of one. It has no permissions."""

    __slots__ = ()

    is_active = True
    is_anonymous = False
    is_staff = False
    is_superuser = False

    @classmethod
    def of(cls, user: User) -> Self:
        made = cls(user.sub, user._metadata, user.consumer_id, user.key_id, user._powers, user.limits)
        made.reservation = user.reservation
        return made

    @property
    def pk(self) -> str:
        return self.consumer_id

    @property
    def id(self) -> str:
        return self.consumer_id

    @property
    def username(self) -> str:
        return self.sub

    def get_username(self) -> str:
        return self.sub

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        return False

    def has_module_perms(self, app_label: str) -> bool:
        return False


class DjangoAnonymous(Anonymous):
    """The same of nobody, for sites without `django.contrib.auth`."""

    __slots__ = ()

    pk: ClassVar[None] = None
    id: ClassVar[None] = None
    username: ClassVar[str] = ""
    is_anonymous: ClassVar[bool] = True
    is_active: ClassVar[bool] = False
    is_staff: ClassVar[bool] = False
    is_superuser: ClassVar[bool] = False


class ApiKeyMiddleware:
    """Checks every request, in both of Django's worlds. A subclass with another `settings_name` is another policy.

    The consumer is in `request.user`, and beside the key in `request.META` under the names of keywright.policy.wsgi.
    Where nobody is authenticated (an exempt path, for one) `request.user` stays what the middleware before made it.
    """

    settings_name = SETTINGS
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = bool(iscoroutinefunction(get_response))
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._call_async(request)
        gate = gate_of(self.settings_name)
        try:
            _enter(request, gate, *gate.check(read(gate, request), (), _charge_of(request)))
        except Refused as refused:
            return answer_problem(refused.problem, request)
        return told(self.get_response(request), request)

    async def _call_async(self, request: HttpRequest) -> Any:
        gate = gate_of(self.settings_name)
        try:
            _enter(request, gate, *await gate.check_async(read(gate, request), (), _charge_of(request)))
        except Refused as refused:
            return answer_problem(refused.problem, request)
        return told(await self.get_response(request), request)


def require_scopes(*scopes: str) -> Callable[[View], View]:
    """A decorator for views, plain and `async`, behind the middleware: whose key is not good for all is refused.

    For a class of views: `method_decorator(require_scopes("orders:read"), name="dispatch")`. Raises TypeError,
    ValueError.
    """
    wanted = checked(scopes)

    def refuse(request: HttpRequest) -> HttpResponse | None:
        try:
            wsgi.require(request.META, wanted)
        except Refused as refused:
            return answer_problem(refused.problem, request)
        return None

    def decorate(view: View) -> View:
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                return refuse(request) or await view(request, *args, **kwargs)

            return cast("View", guarded_async)

        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return refuse(request) or view(request, *args, **kwargs)

        return cast("View", guarded)

    return decorate


def charge(*, cost: int | None = None, peek: bool = False, reserve: int | None = None) -> Callable[[View], View]:
    """A decorator for views, outermost: what the middleware takes of the key's quotas for them. Of several the view's
    own counts. `peek` takes nothing, `reserve` what is settled by `settle`. Raises TypeError, ValueError.
    """
    global _has_charges  # noqa: PLW0603
    _has_charges = True
    return charging(Charge.of(cost, reserve, peek=peek))


async def settle_async(reservation: str | None, cost: int, settings_name: str = SETTINGS) -> Settlement | None:
    """What `request.user.reservation` came to. Raises NotSettled, TypeError, ValueError."""
    return await gate_of(settings_name).settle(reservation, cost)


def settle(reservation: str | None, cost: int, settings_name: str = SETTINGS) -> Settlement | None:
    """The same for threads."""
    return gate_of(settings_name).settle_blocking(reservation, cost)


def _charge_of(request: HttpRequest) -> Charge:
    """The middleware comes before Django has looked for the view."""
    if not _has_charges:
        return NO_CHARGE
    try:
        return charge_of(resolve(request.path_info, getattr(request, "urlconf", None)).func)
    except Resolver404:
        return NO_CHARGE


def read(gate: Gate, request: HttpRequest) -> Any:
    """What the policy looks at; what the request claims itself is taken out of it."""
    try:
        # Not META's path, which WSGI and ASGI spell differently.
        return wsgi.read(gate, request.META, request.path_info)
    finally:
        # Django keeps a copy of the headers; what was forged is no longer in the original.
        request.__dict__.pop("headers", None)


def answer_problem(problem: Problem, request: HttpRequest) -> HttpResponse:
    headers, body = render(problem, request.path, request_id_of_text(request.META.get("HTTP_X_REQUEST_ID")))
    return HttpResponse(body, status=problem.status, headers=dict(headers))


def gate_of(name: str) -> Gate:
    """Made at the first request of this process, and kept. Raises ImproperlyConfigured."""
    gate = _gates.get(name)
    if gate is None:
        given = {key.lower(): value for key, value in getattr(settings, name, {}).items()}
        source = given.pop("source", None)
        if source is None or "bucket_name" not in given:
            raise ImproperlyConfigured(f"settings.{name} needs SOURCE and BUCKET_NAME")
        if isinstance(source, str):
            source = functools.partial(_imported, source)
        try:
            gate = _gates[name] = Gate(source, **given)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"settings.{name}: {error}") from None
    return gate


def _imported(path: str) -> Source:
    found = import_string(path)
    return cast("Source", found) if sources.is_source(found) else sources.made_by(found)


def told(response: Any, request: HttpRequest) -> Any:
    """The answer with what is told of the limits of the request's key."""
    user = request.META.get(wsgi.USER)
    for name, value in limit_fields(user).items() if isinstance(user, User) else ():
        response[name] = value
    return response


def _enter(request: Any, gate: Gate, user: User | Anonymous, auth: Credential) -> None:
    request.META[wsgi.USER], request.META[wsgi.AUTH] = user, auth
    if isinstance(user, Anonymous):
        if not hasattr(request, "user"):
            request.user = DjangoAnonymous(user.code)
        return
    known = request.user = DjangoUser.of(user)

    async def auser() -> DjangoUser:
        return known

    request.auser = auser
    # No browser adds the header with a key by itself, so no other site can have it sent; a parameter it can.
    if gate.query_parameter is None:
        request._dont_enforce_csrf_checks = True


def _forget(*, setting: str, **_: object) -> None:
    _gates.pop(setting, None)


setting_changed.connect(_forget)
