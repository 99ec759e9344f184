"""Owns the policy as a Django REST Framework authentication class, with its options in Django's settings.

    KEYWRIGHT = {"SOURCE": source, "BUCKET_NAME": "my-bucket"}
    REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["keywright.policy.drf.ApiKeyAuthentication"]}

`request.user` is the consumer and `request.auth` the key. With the EXCEPTION_HANDLER
"keywright.policy.drf.handle_exception" a refusal has the problem document that it has elsewhere; without it, the
framework's own form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpResponse
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException

from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy import wsgi
from keywright.policy.rules.gate import Gate, Refused
from keywright.policy.rules.identity import Credential, User

if TYPE_CHECKING:
    from rest_framework.request import Request

SETTINGS = "KEYWRIGHT"
_gates: dict[str, Gate] = {}


class DjangoUser(User):
    """A User with what Django's and the framework's permissions and throttles ask of one. It has no permissions."""

    __slots__ = ()

    is_active = True
    is_anonymous = False
    is_staff = False
    is_superuser = False

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(user.sub, user._metadata, user.consumer_id, user.key_id)

    @property
    def pk(self) -> str:
        return self.consumer_id

    def get_username(self) -> str:
        return self.sub

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        return False


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

    def authenticate(self, request: Request) -> tuple[DjangoUser, Credential] | None:
        http_request = request._request
        try:
            user, auth = wsgi.authenticate(_gate_of(self.settings_name), http_request.META)
        except Refused as refused:
            raise KeyRefused(refused) from None
        finally:
            # Django keeps a copy of the headers; what was forged is no longer in the original.
            http_request.__dict__.pop("headers", None)
        if not isinstance(user, User):
            return None
        return DjangoUser.of(user), auth

    def authenticate_header(self, request: Request) -> str:
        """The challenge of a 401 that permissions ask for."""
        return _gate_of(self.settings_name).missing.headers["www-authenticate"]


def handle_exception(error: Exception, context: dict[str, Any]) -> Any:
    """The framework's own exception handler, but for refused keys."""
    if not isinstance(error, KeyRefused):
        # That module imports this one, by the settings.
        from rest_framework.views import exception_handler

        return exception_handler(error, context)
    request = context["request"]
    request_id = request_id_of_text(request.META.get("HTTP_X_REQUEST_ID"))
    headers, body = render(error.problem, request.path, request_id)
    return HttpResponse(body, status=error.problem.status, headers=dict(headers))


def _gate_of(name: str) -> Gate:
    """Made at the first request of this process, and kept."""
    gate = _gates.get(name)
    if gate is None:
        given = {key.lower(): value for key, value in getattr(settings, name, {}).items()}
        source = given.pop("source", None)
        if source is None or "bucket_name" not in given:
            raise ImproperlyConfigured(f"settings.{name} needs SOURCE and BUCKET_NAME")
        try:
            gate = _gates[name] = Gate(import_string(source) if isinstance(source, str) else source, **given)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"settings.{name}: {error}") from None
    return gate


def _forget(*, setting: str, **_: object) -> None:
    _gates.pop(setting, None)


setting_changed.connect(_forget)
