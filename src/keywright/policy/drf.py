"""Owns the policy as a Django REST Framework authentication class, with its options in Django's settings.

    KEYWRIGHT = {"SOURCE": source, "BUCKET_NAME": "my-bucket"}
    REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["keywright.policy.drf.ApiKeyAuthentication"]}

    class Orders(APIView):
        permission_classes = [require_scopes("orders:read")]
        keywright_charge = charge(cost=5)

`request.user` is the consumer and `request.auth` the key. With the EXCEPTION_HANDLER
"keywright.policy.drf.handle_exception" a refusal has the problem document that it has elsewhere; without it, the
framework's own form. With "keywright.policy.drf.tell_limits" in MIDDLEWARE good answers say how the key's rate limits
stand.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.permissions import BasePermission

from keywright.policy import wsgi
from keywright.policy.django import SETTINGS, DjangoUser, answer_problem, gate_of, read, told
from keywright.policy.rules.charges import Charge, charge_of
from keywright.policy.rules.demands import checked
from keywright.policy.rules.gate import GATE, Refused
from keywright.policy.rules.identity import Credential, User

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse
    from rest_framework.request import Request

    from keywright.policy.rules.gate import Gate


class KeyRefused(APIException):
    """A refusal on its way to the exception handler."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.problem.detail, refused.code.lower())
        self.problem = refused.problem
        self.status_code = refused.problem.status
        self.auth_header = refused.problem.headers.get("www-authenticate")
        retry_after = refused.problem.headers.get("retry-after")
        self.wait = None if retry_after is None else int(retry_after)


class ApiKeyAuthentication(BaseAuthentication):
    """A subclass with another `settings_name` is another policy, for views with keys of another bucket."""

    settings_name = SETTINGS
    scheme_name = "ApiKey"
    """In the OpenAPI document that drf-spectacular makes."""

    def __init__(self) -> None:
        # It has just been imported where a document is made, and could not be when this module was: it imports views,
        # and these the authentication classes of the settings.
        if "drf_spectacular.extensions" in sys.modules:
            _describe_to_spectacular()

    def authenticate(self, request: Request) -> tuple[DjangoUser, Credential] | None:
        gate = gate_of(self.settings_name)
        try:
            user, auth = gate.check(read(gate, request._request), (), _charge_of(request))
        except Refused as refused:
            raise KeyRefused(refused) from None
        request._request.META[wsgi.USER], request._request.META[wsgi.AUTH] = user, auth
        if not isinstance(user, User):
            return None
        return DjangoUser.of(user), auth

    def authenticate_header(self, request: Request) -> str:
        """The challenge of a 401 that permissions ask for."""
        return gate_of(self.settings_name).missing.headers["www-authenticate"]


def _charge_of(request: Request) -> Charge:
    """What the view says: `keywright_charge = charge(cost=5)`."""
    return charge_of((getattr(request, "parser_context", None) or {}).get("view"))


def charge(*, cost: int | None = None, peek: bool = False, reserve: int | None = None) -> Charge:
    """What a view takes of the key's quotas: its attribute `keywright_charge`. `peek` takes nothing, `reserve` what is
    settled by `keywright.policy.django.settle`. Raises TypeError, ValueError.
    """
    return Charge.of(cost, reserve, peek=peek)


class RequireScopes(BasePermission):
    """Lets those on whose key is good for all of `scopes`. Use `require_scopes`."""

    scopes: tuple[str, ...] = ()

    def has_permission(self, request: Request, view: object) -> bool:
        """Raises KeyRefused, which unlike a plain no has the challenge that says what is missing."""
        user = request.user
        gate: Gate | None = request._request.META.get(GATE)
        if gate is None:
            # Nobody who came with a key: another class has authenticated the request, if any has.
            return False
        try:
            gate.require(user, self.scopes)
        except Refused as refused:
            raise KeyRefused(refused) from None
        return True


def require_scopes(*scopes: str) -> type[RequireScopes]:
    """A permission class for views whose key must be good for all of these. Raises TypeError, ValueError."""
    return type("RequireScopes", (RequireScopes,), {"scopes": checked(scopes)})


@sync_and_async_middleware  # type: ignore[untyped-decorator]
def tell_limits(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: what an authentication class can't put on an answer, which it does not see."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> Any:
            return told(await get_response(request), request)

        return answer_async

    def answer(request: HttpRequest) -> Any:
        return told(get_response(request), request)

    return answer


def handle_exception(error: Exception, context: dict[str, Any]) -> Any:
    """The framework's own exception handler, but for refused keys."""
    if not isinstance(error, KeyRefused):
        # That module imports this one, by the settings.
        from rest_framework.views import exception_handler

        return exception_handler(error, context)
    response: HttpResponse = answer_problem(error.problem, context["request"])
    return response


@functools.cache
def _describe_to_spectacular() -> None:
    """Its extensions are known once their class is made."""
    from drf_spectacular.extensions import OpenApiAuthenticationExtension

    class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
        target_class = ApiKeyAuthentication
        match_subclasses = True

        def __init__(self, target: ApiKeyAuthentication) -> None:
            super().__init__(target)  # type: ignore[no-untyped-call]
            self.name = target.scheme_name

        def get_security_definition(self, auto_schema: object) -> dict[str, str]:
            return gate_of(self.target.settings_name).openapi_scheme
