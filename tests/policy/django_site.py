"""The one Django site of the tests: its settings are made once in a process. Views tell whom a request comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of the tests",
        ROOT_URLCONF="policy.django_site",
        INSTALLED_APPS=["rest_framework"],
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": ["keywright.policy.drf.ApiKeyAuthentication"],
            "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
            "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
            "EXCEPTION_HANDLER": "keywright.policy.drf.handle_exception",
            "UNAUTHENTICATED_USER": None,
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        },
    )
    django.setup()

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from keywright.policy.drf import ApiKeyAuthentication


def plain(request: HttpRequest) -> JsonResponse:
    """What middleware around Django has found out."""
    scope = getattr(request, "scope", None)
    user: Any = request.environ["keywright.user"] if scope is None else scope["user"]  # type: ignore[attr-defined]
    forged = {name: value for name, value in request.headers.items() if name.lower().startswith("x-consumer")}
    return JsonResponse({"sub": user.sub, "data": user.data, "forged": forged})


def whoever(request: HttpRequest) -> JsonResponse:
    """What the middleware of the policy has made of it."""
    user: Any = request.user  # type: ignore[attr-defined]
    forged = [name for name in (*request.headers, *request.META) if "consumer" in name.lower()]
    return JsonResponse({"user": str(user), "known": user.is_authenticated, "forged": forged})


def name(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.sub)  # type: ignore[attr-defined]


async def whoever_async(request: HttpRequest) -> JsonResponse:
    user: Any = request.user  # type: ignore[attr-defined]
    known = await request.auser() if user.is_authenticated else user  # type: ignore[attr-defined]
    return JsonResponse({"user": str(known), "same": known is user})


def open_to_all(get_response: Any) -> Any:
    """What answers of an app that other sites may call all have."""

    def answer(request: HttpRequest) -> Any:
        response = get_response(request)
        response["Access-Control-Allow-Origin"] = "*"
        return response

    return answer


def with_a_session(get_response: Any) -> Any:
    def answer(request: Any) -> Any:
        request.user = SimpleNamespace(is_authenticated=True, is_staff=True)
        return get_response(request)

    return answer


class Hello(APIView):
    def get(self, request: Any) -> Response:
        return Response(
            {
                "sub": request.user.sub,
                "data": request.user.data,
                "key": request.auth.key_id,
                "forged": [name for name in request.headers if name.lower().startswith("x-consumer")],
            }
        )

    put = get


class Open(APIView):
    permission_classes = (AllowAny,)

    def get(self, request: Any) -> Response:
        return Response({"sub": getattr(request.user, "sub", None)})


class Elsewhere(ApiKeyAuthentication):
    settings_name = "KEYWRIGHT_ELSEWHERE"


class Other(Hello):
    authentication_classes = (Elsewhere,)


class OncePerMinute(UserRateThrottle):
    rate = "1/min"


class Throttled(Hello):
    throttle_classes = (OncePerMinute,)


urlpatterns = [
    path("", Hello.as_view()),
    path("open", Open.as_view()),
    path("other", Other.as_view()),
    path("throttled", Throttled.as_view()),
    path("plain", plain),
    path("name", name),
    path("whoever", whoever),
    path("öffentlich", whoever),
    path("whoever-async", whoever_async),
]
