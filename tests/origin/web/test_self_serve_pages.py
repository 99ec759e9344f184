"""What the admin portal lets an owner say of self-serve and of the developer portal's looks."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from origin.developer_portal.test_branding import LOGO
from support.service import Service
from support.visitor import ACCOUNT, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "my-project-preview"
BUCKET = f"{ACCOUNT}/buckets/{NAME}"
RIGHTS = {"maxConsumers": "3", "maxKeys": "7"}
LOOKS = {
    "name": "Weather API", "color": "#0f5c6e", "supportEmail": "help@example.com",
    "apiUrl": "https://api.example.com/v1", "links": "Docs=https://docs.example.com/?a=b\nA=B = http://x.example.com",
}  # fmt: skip
TICKED = re.compile(r'<input type="checkbox" id="f-(\w+)"[^>]* checked')


async def read(service: Service, *path: str) -> Any:
    return await service.call("GET", "/".join([f"{service.account_url}/key-buckets/{NAME}", *path]))


async def test_what_users_may_do_is_saved_and_logged(shared: Service) -> None:
    async with visiting(shared) as visitor:
        page = await visitor.open(f"{BUCKET}/self-serve")
        assert TICKED.findall(page) == ["enabled", "deleteConsumers", "createKeys"]
        await visitor.send(f"{BUCKET}/self-serve", enabled="on", createConsumers="on", **RIGHTS)
        assert (await read(shared))["selfServe"] == {
            "enabled": True, "createConsumers": True, "deleteConsumers": False, "createKeys": False,
            "maxConsumers": 3, "maxKeys": 7,
        }  # fmt: skip
        assert TICKED.findall(await visitor.open(f"{BUCKET}/self-serve")) == ["enabled", "createConsumers"]
    entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
    assert (entry["action"], entry["route"]["source"]) == ("bucket.update", "portal")


async def test_a_bucket_is_closed_to_users_and_opened_again(shared: Service) -> None:
    async with visiting(shared) as visitor, visiting(shared, None) as user:
        answer = await visitor.send(f"{BUCKET}/self-serve", **RIGHTS)
        assert "Self-serve is off." in await visitor.open(answer.headers["location"])
        await user.open(f"/portal/{NAME}/sign-in", 404)
        assert "so nobody can see it" in await visitor.open(f"{BUCKET}/portal")
        await visitor.send(f"{BUCKET}/self-serve", enabled="on", **RIGHTS)
        await user.open(f"/portal/{NAME}/sign-in")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"maxKeys": ""}, "maxKeys", "Is required."),
        ({"maxKeys": "0"}, "maxKeys", "Must be a whole number from 1 to 1,000."),
        ({"maxConsumers": "many"}, "maxConsumers", "Must be a whole number from 1 to 1,000."),
    ],
    ids=str,
)
async def test_a_wrong_number_is_said_beside_its_field(
    shared: Service, fields: dict[str, str], field: str, words: str
) -> None:
    before = await read(shared)
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/self-serve", expect=400, enabled="on", **{**RIGHTS, **fields})
        assert f'id="f-{field}-error">{words}<' in answer.text
        # What was typed stays, also a box that was left empty.
        assert TICKED.findall(answer.text) == ["enabled"]
    assert await read(shared) == before


async def test_the_looks_are_saved_shown_and_logged(shared: Service) -> None:
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/portal", **LOOKS, logo=LOGO)
        saved = await read(shared, "portal")
        logo_url = saved.pop("logoUrl")
        links = [
            {"text": "Docs", "url": "https://docs.example.com/?a=b"},
            {"text": "A=B", "url": "http://x.example.com"},
        ]
        assert saved == {**LOOKS, "links": links}
        page = html.unescape(await visitor.open(answer.headers["location"]))
        assert "Branding saved" in page
        assert f'src="{logo_url}"' in page
        assert 'value="#0f5c6e"' in page
        assert "Docs=https://docs.example.com/?a=b\nA=B=http://x.example.com" in page
        entry = (await shared.call("GET", f"{shared.account_url}/audit-logs"))["data"][0]
        assert (entry["action"], entry["route"]["source"]) == ("portal.update", "portal")
        # No picture was chosen: the one that is there stays, until it is taken away.
        await visitor.send(f"{BUCKET}/portal", **{**LOOKS, "name": ""})
        kept = await read(shared, "portal")
        assert (kept["logoUrl"], kept["name"]) == (logo_url, None)
        await visitor.send(f"{BUCKET}/portal", **LOOKS, removeLogo="on")
        assert (await read(shared, "portal"))["logoUrl"] is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": "x" * 61}, "name", "Must have at most 60 characters."),
        ({"color": "red"}, "color", "Must be a colour such as #0f5c6e."),
        ({"supportEmail": "help"}, "supportEmail", "Must be an e-mail address."),
        ({"apiUrl": "javascript:alert(1)"}, "apiUrl", "Must be a web address"),
        ({"links": "Docs"}, "links", "Must be text=URL"),
        ({"links": "Docs=javascript:alert(1)"}, "links", "Must be text=URL"),
        ({"links": 'Docs=https://x.example/"onload="x'}, "links", "Must be a web address"),
        ({"links": "x" * 41 + "=https://x.example"}, "links", "at most 40 characters"),
        ({"links": "\n".join(f"L{n}=https://x.example" for n in range(7))}, "links", "Must be at most 6."),
        ({"logo": "data:image/svg+xml;base64,PHN2Zz4="}, "logo", "Must be a PNG, JPEG or WebP picture"),
        ({"logo": "https://evil.example/logo.png"}, "logo", "Must be a PNG, JPEG or WebP picture"),
        ({"logo": "data:image/png;base64,!"}, "logo", "Must be a PNG, JPEG or WebP picture"),
    ],
    ids=str,
)
async def test_looks_that_would_harm_are_said_beside_their_field(
    shared: Service, fields: dict[str, str], field: str, words: str
) -> None:
    before = await read(shared, "portal")
    async with visiting(shared) as visitor:
        answer = await visitor.send(f"{BUCKET}/portal", expect=400, **{**LOOKS, "name": "As it was typed", **fields})
        error = re.search(rf'id="f-{field}-error">([^<]*)<', answer.text)
        assert error
        assert words in error[1]
        assert "name" in fields or 'value="As it was typed"' in answer.text
    assert await read(shared, "portal") == before
