"""Which web pages may call the Self-serve API, and that they can read its errors, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from origin.self_serve.world import WEB_PAGE, World
from support import service as services
from support.identity import IdentityProvider

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFLIGHT = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization,content-type"}


async def test_a_question_of_the_browser_is_answered_without_authentication(quick: World) -> None:
    for url in (
        f"{quick.by_name}/my",
        f"{quick.by_name}/any",
        f"{quick.by_id}/any/roll-key",
        f"{quick.by_id}/a/keys/b",
    ):
        headers = {"Origin": WEB_PAGE, "Authorization": "", **PREFLIGHT}
        answer = await quick.service.client.options(url, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == WEB_PAGE
        methods = set(answer.headers["access-control-allow-methods"].split(", "))
        assert methods >= {"GET", "POST", "PATCH", "DELETE"}
        allowed = set(answer.headers["access-control-allow-headers"].split(", "))
        assert allowed >= {"authorization", "content-type"}
        assert "access-control-allow-credentials" not in answer.headers
    assert quick.provider.asked == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "https://app.example.com.evil.com", "null", "http://app.example.com"]
)
async def test_another_page_is_not_named(quick: World, origin: str) -> None:
    for method in ("OPTIONS", "GET"):
        answer = await quick.service.client.request(
            method, f"{quick.by_name}/my", headers={"Origin": origin, **PREFLIGHT}
        )
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "origin"


async def test_every_error_can_be_read_by_the_page(quick: World) -> None:
    token, reserved = quick.provider.token(), quick.provider.token(sub="email-link|ada@example.com")
    for method, url, headers, status in [
        ("GET", f"{quick.by_name}/my", {"Authorization": "Bearer nonsense"}, 401),
        ("GET", f"{quick.by_name}/my", {"Authorization": f"Bearer {reserved}"}, 403),
        ("DELETE", f"{quick.by_name}/other", {"Authorization": f"Bearer {token}"}, 404),
        ("GET", "/v1/self-serve/nothing-here/at/all", {}, 404),
        ("PUT", f"{quick.by_name}/my", {}, 405),
    ]:
        answer = await quick.service.client.request(method, url, headers={"Origin": WEB_PAGE, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == WEB_PAGE
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_fault_of_the_service_can_be_read_by_the_page(quick: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("keywright.origin.self_serve.rules.list_consumers", broken)
    headers = {"Origin": WEB_PAGE, "Authorization": f"Bearer {quick.provider.token()}"}
    answer = await quick.service.client.get(f"{quick.by_name}/my", headers=headers)
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == WEB_PAGE


async def test_the_developer_api_is_open_to_no_page(quick: World) -> None:
    for url in (quick.service.consumers_url, f"/v1/validate/{quick.service.bucket}", "/openapi.json"):
        answer = await quick.service.client.get(url, headers={"Origin": WEB_PAGE})
        assert "access-control-allow-origin" not in answer.headers


async def test_without_configured_origins_no_page_is_named(provider: IdentityProvider, tmp_path: Path) -> None:
    end_users = replace(services.end_users_of(provider), cors_origins=())
    async with services.running(services.settings_for(tmp_path / "data", end_users=end_users)) as running:
        url = f"/v1/self-serve/{running.bucket}/consumers/my"
        answer = await running.client.options(url, headers={"Origin": WEB_PAGE, **PREFLIGHT})
    assert "access-control-allow-origin" not in answer.headers
