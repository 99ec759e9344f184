"""The owner says how a portal looks, and can say nothing that would harm its readers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from origin.developer_portal.people import LinkPortal, new_address
from support.visitor import visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LOGO = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
NOTHING = {"name": None, "color": None, "supportEmail": None, "apiUrl": None, "links": [], "logoUrl": None}


def url_of(links: LinkPortal) -> str:
    return f"{links.service.account_url}/key-buckets/my-project-preview/portal"


async def test_the_looks_are_kept_and_change_one_by_one(links: LinkPortal) -> None:
    service, url = links.service, url_of(links)
    assert await service.call("GET", url) == NOTHING
    brand = {
        "name": "Weather API",
        "color": "#E8590C",
        "supportEmail": "help@example.com",
        "apiUrl": "https://api.example.com/v1",
        "links": [{"text": "Docs", "url": "https://docs.example.com"}],
        "logo": LOGO,
    }
    made = await service.call("PATCH", url, json=brand)
    logo_url = made.pop("logoUrl")
    assert made == {name: value for name, value in brand.items() if name != "logo"}

    async with visiting(service, None) as visitor:
        shown = await visitor.open("/portal/my-project-preview/sign-in")
        assert "Weather API" in shown
        assert logo_url in shown
        assert 'width="32" height="32"' in shown, "a square"
        picture = await visitor.client.get(logo_url)
        assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
        assert picture.headers["x-content-type-options"] == "nosniff"
        style = await visitor.open("/portal/my-project-preview/colors.css")
        assert style.startswith(":root { --accent: light-dark(#")

    changed = await service.call("PATCH", url, json={"name": "Climate API", "logo": None})
    assert changed == {**made, "name": "Climate API", "logoUrl": None}
    async with visiting(service, None) as visitor:
        await visitor.open("/portal/my-project-preview/logo", expect=404)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "نمی‌خواهم"},
        {"name": "👩‍🔬 Labs"},
        {"name": " x "},
        {"name": "x" * 60},
        {"apiUrl": "HTTP://api_1.example.com:8443/v1/?a=[1]&b=%20#part"},
        {"apiUrl": "http://[::1]:8080"},
        {"apiUrl": "https://example.com/" + "x" * 480},
        {"links": [{"text": "x" * 40, "url": "https://example.com?q=@"}] * 6},
        {"color": "#ABCDEF"},
        {"supportEmail": "mueller@xn--exmple-cua.com"},
        *({"logo": f"data:image/{kind};base64,{base64.b64encode(head + bytes(65536 - len(head))).decode()}"}
          for kind, head in (("png", PNG), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF\x24\x00\x01\x00WEBPVP8 "))),
        {"name": None, "color": None, "supportEmail": None, "apiUrl": None, "links": [], "logo": None},
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
async def test_what_is_safe_to_show_is_taken_as_it_is(links: LinkPortal, value: dict[str, Any]) -> None:
    shown = await links.service.call("PATCH", url_of(links), json=value)
    assert {name: shown[name] for name in value if name != "logo"} == {
        name: given for name, given in value.items() if name != "logo"
    }
    assert bool(shown["logoUrl"]) == bool(value.get("logo"))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"name": " \u2003\ufeff"}, "body.name"),
        ({"name": "x\n"}, "body.name"),
        ({"name": "moc.\u202elive.example"}, "body.name"),
        ({"name": "two\u2028lines"}, "body.name"),
        ({"apiUrl": "https://"}, "body.apiUrl"),
        ({"apiUrl": "https:///path"}, "body.apiUrl"),
        ({"apiUrl": "https://api.example.com:port"}, "body.apiUrl"),
        ({"apiUrl": "https://api.example.com\n"}, "body.apiUrl"),
        ({"apiUrl": "https://exämple.com"}, "body.apiUrl"),
        ({"apiUrl": "https://example.com\\@evil.example"}, "body.apiUrl"),
        ({"apiUrl": "https://example.com/" + "x" * 481}, "body.apiUrl"),
        ({"logo": "data:image/jpeg;base64," + base64.b64encode(PNG).decode()}, "body.logo"),
        ({"logo": "data:image/webp;base64," + base64.b64encode(b"RIFF\x24\x00\x01\x00WAVEfmt ").decode()}, "body.logo"),
        ({"logo": LOGO[:-1]}, "body.logo"),
        ({"logo": LOGO + "\n"}, "body.logo"),
        ({"logo": LOGO + "AAAA"}, "body.logo"),
        ({"name": ""}, "body.name"),
        ({"name": "x" * 61}, "body.name"),
        ({"name": "two\nlines"}, "body.name"),
        ({"color": "red"}, "body.color"),
        ({"color": "#fff"}, "body.color"),
        ({"color": "#e8590c; } * { background: url(//evil) }"}, "body.color"),
        ({"color": "#e8590c\n"}, "body.color"),
        ({"supportEmail": "nobody"}, "body.supportEmail"),
        ({"apiUrl": "javascript:alert(1)"}, "body.apiUrl"),
        ({"apiUrl": "https://api.example.com/'; import os #"}, "body.apiUrl"),
        ({"apiUrl": "https://api.example.com/$(reboot)"}, "body.apiUrl"),
        ({"apiUrl": "https://user:secret@api.example.com"}, "body.apiUrl"),
        ({"links": [{"text": "x", "url": "javascript:alert(1)"}]}, "body.links.0.url"),
        ({"links": [{"text": "", "url": "https://example.com"}]}, "body.links.0.text"),
        ({"links": [{"text": "x", "url": "https://example.com"}] * 7}, "body.links"),
        ({"logo": "https://evil.example.com/logo.png"}, "body.logo"),
        ({"logo": "data:image/svg+xml;base64," + base64.b64encode(b"<svg onload=alert(1)>").decode()}, "body.logo"),
        ({"logo": "data:image/png;base64," + base64.b64encode(b"<html><script>").decode()}, "body.logo"),
        ({"logo": "data:image/png;base64,!!!!"}, "body.logo"),
        ({"logo": "data:image/png;base64," + base64.b64encode(PNG + bytes(65536)).decode()}, "body.logo"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_not_safe_to_show_is_refused_and_nothing_changes(
    links: LinkPortal, value: dict[str, Any], field: str
) -> None:
    before = await links.service.call("GET", url_of(links))
    problem = await links.service.call("PATCH", url_of(links), expect=400, json=value)
    assert [error["field"] for error in problem["errors"]] == [field]
    assert await links.service.call("GET", url_of(links)) == before


async def test_only_the_owner_says_how_it_looks(links: LinkPortal) -> None:
    service = links.service
    reader = await service.new_management_key(buckets={"my-project-preview": "read"})
    await service.call("GET", url_of(links), key=reader)
    await service.call("PATCH", url_of(links), key=reader, json={"name": "x"}, expect=403)


async def test_what_is_not_found_in_a_portal_wears_its_brand(links: LinkPortal) -> None:
    await links.service.call("PATCH", url_of(links), json={"name": "Weather API", "supportEmail": "help@example.com"})
    async with visiting(links.service, None) as visitor:
        page = await visitor.open("/portal/my-project-preview/none-such", 404)
        assert "<title>Not found · Weather API</title>" in page
        assert "mailto:help@example.com" in page
        assert "Keywright" not in page
        # Of a portal that is none nobody's brand can be told.
        assert "Weather API" not in await visitor.open("/portal/none-such/none-such", 404)


async def test_the_address_above_all_portals_is_a_page(links: LinkPortal) -> None:
    async with visiting(links.service, None) as visitor:
        for path in ("/portal", "/portal/"):
            assert "Every API has a portal of its own" in await visitor.open(path)


async def test_a_user_who_deletes_a_key_is_told_whose_it_is(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada, description="The test server")
    async with links.person(ada) as visitor:
        page = await visitor.open(f"{links.url}/consumers/{made['name']}/keys/{made['apiKeys'][0]['id']}/delete")
    assert "“first”, the key ending in" in page
    assert "belongs to The test server." in page
