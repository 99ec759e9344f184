"""The addresses of the Django site in versions_app.py."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import path


def name(request: Any) -> HttpResponse:
    return HttpResponse(request.user.username)


if "rest_framework" in settings.INSTALLED_APPS:
    from rest_framework.decorators import api_view

    name = api_view()(name)

urlpatterns = [path("name", name)]
