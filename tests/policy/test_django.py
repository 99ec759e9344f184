"""The policy as Django's middleware, read from settings at the first request, and the user that Django's code sees."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from policy.keys import EXPIRED, LOST, Keys
from policy.test_frameworks import call_and_stay

GOOD = {"Authorization": "Bearer zpka_gold"}
FORGED = {"X-Consumer-Name": "admin"}
POLICY = "keywright.policy.django.ApiKeyMiddleware"
SITE = "policy.django_site"


@pytest.fixture
def site(keys: Keys) -> Any:
    """Settings of the one site, and those that a test wants to have in their place."""
    from django.test import override_settings

    from policy import django_site  # noqa: F401

    def site(*middleware: str, **options: Any) -> Any:
        given = {"SOURCE": keys, "BUCKET_NAME": "my-bucket", **options}
        return override_settings(KEYWRIGHT=given, MIDDLEWARE=middleware or [POLICY])

    return site


@pytest.fixture
def keys() -> Keys:
    return Keys()


def get(path: str = "/whoever", headers: Any = (), **more: Any) -> Any:
    from django.test import Client

    return Client(**more).get(path, headers=dict(headers))


def test_a_view_has_the_consumer_in_request_user_and_nothing_that_a_client_made_up(site: Any) -> None:
    with site():
        answer = get(headers={**GOOD, **FORGED})
        assert (answer.status_code, answer.json()) == (200, {"user": "acme", "known": True, "forged": []})
        request = answer.wsgi_request
        user = request.user
        assert (user.id, user.pk, user.username, user.get_username()) == ("csmr_1", "csmr_1", "acme", "acme")
        assert (str(user), user.is_anonymous, user.is_active, user.is_staff, user.has_module_perms("x")) == (
            "acme", False, True, False, False,
        )  # fmt: skip
        assert (request.META["keywright.user"].sub, request.META["keywright.auth"].key_id) == ("acme", "key_1")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {EXPIRED}"}, 401),
        ({"Authorization": f"Bearer {LOST}"}, 503),
        ({"Authorization": "Bearer zpka_gold,Bearer zpka_gold"}, 401),
    ],
)
def test_a_refusal_is_a_problem_document_that_outer_middleware_sees(site: Any, headers: Any, status: int) -> None:
    with site(f"{SITE}.open_to_all", POLICY):
        answer = get("/nowhere", headers)
    assert (answer.status_code, answer["content-type"]) == (status, "application/problem+json")
    assert answer["access-control-allow-origin"] == "*"
    assert json.loads(answer.content)["instance"] == "/nowhere"


async def test_async_views_are_asked_without_a_thread_between(site: Any) -> None:
    from django.test import AsyncClient

    with site():
        answer = await AsyncClient().get("/whoever-async", headers=GOOD)
        assert answer.json() == {"user": "acme", "same": True}
        assert (await AsyncClient().get("/whoever-async")).status_code == 401


async def test_exempt_paths_are_the_same_in_both_worlds(site: Any) -> None:
    from django.core.handlers.asgi import ASGIHandler

    with site(EXEMPT_PATHS=["/öffentlich"]):
        headers = [(name.lower().encode(), value.encode()) for name, value in FORGED.items()]
        # Django's AsyncClient spells such a path as no server does.
        answers = [get("/öffentlich", FORGED), await call_and_stay(ASGIHandler(), headers, "/öffentlich")]
    assert [answer.json() for answer in answers] == [{"user": "nobody (EXEMPT)", "known": False, "forged": []}] * 2


def test_who_is_signed_in_stays_who_they_are_where_no_key_is_wanted(site: Any) -> None:
    with site(f"{SITE}.with_a_session", POLICY, EXEMPT_PATHS=["/whoever"]):
        assert get().wsgi_request.user.is_staff is True
    with site(f"{SITE}.with_a_session", POLICY):
        assert get(headers=GOOD).wsgi_request.user.is_staff is False


def test_a_key_in_a_header_needs_no_token_against_forgery_but_one_in_the_query_does(site: Any) -> None:
    csrf = "django.middleware.csrf.CsrfViewMiddleware"
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    with site(POLICY, csrf):
        assert client.post("/whoever", headers=GOOD).status_code == 200
        assert client.post("/whoever").status_code == 401
    with site(POLICY, csrf, ALLOW_UNAUTHENTICATED_REQUESTS=True):
        assert client.post("/whoever").status_code == 403
    with site(POLICY, csrf, QUERY_PARAMETER="key"):
        assert client.post("/whoever?key=zpka_gold").status_code == 403


def test_a_source_by_its_path_is_imported_at_the_first_request(site: Any) -> None:
    with site(SOURCE="policy.keys.THE_KEYS"):
        assert get(headers=GOOD).status_code == 200
    with site(SOURCE="policy.keys.Keys"):
        assert get(headers=GOOD).status_code == 200
    from keywright.policy.testing import fake_keys

    with site(SOURCE="policy.nowhere.source"), fake_keys() as fakes:
        assert get(headers=fakes.headers(fakes.valid("basic"))).json()["user"] == "basic"


def test_commands_need_neither_files_nor_variables(tmp_path: Path) -> None:
    (tmp_path / "keys.py").write_text("import os\nraise SystemExit('imported')\n")
    script = """
        from django.conf import settings
        settings.configure(
            SECRET_KEY="x", ROOT_URLCONF="urls", STATIC_ROOT="static", STATIC_URL="/static/",
            INSTALLED_APPS=["django.contrib.staticfiles"], MIDDLEWARE=["keywright.policy.django.ApiKeyMiddleware"],
            KEYWRIGHT={"SOURCE": "keys.source", "BUCKET_NAME": "my-bucket"},
        )
        from django.core.management import execute_from_command_line
        execute_from_command_line(["manage.py", "check"])
        execute_from_command_line(["manage.py", "collectstatic", "--no-input"])
    """
    (tmp_path / "urls.py").write_text("urlpatterns = []\n")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_drf_spectacular_names_the_scheme_and_where_the_key_is(site: Any) -> None:
    from drf_spectacular.generators import SchemaGenerator

    from policy import django_site

    with site(AUTH_HEADER="x-api-key", AUTH_SCHEME=""):
        patterns = [one for one in django_site.urlpatterns if str(one.pattern) in ("", "open")]
        document = SchemaGenerator(patterns=patterns).get_schema(request=None, public=True)
    assert document["components"]["securitySchemes"] == {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}
    }
    assert document["paths"]["/"]["get"]["security"] == [{"ApiKey": []}]
