"""The pages at / and /docs: complete, self-contained, and safe whatever the document says."""

from __future__ import annotations

import html
import itertools
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from functools import cache
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from keywright.http.client_address import ClientAddresses
from keywright.origin.app import create_app
from keywright.origin.pipeline import respond
from keywright.origin.pipeline.request_counts import RequestCounts
from keywright.origin.web import assets
from keywright.origin.web.reference import public_pages
from keywright.runtime.clock import Clock
from support.service import Service, bare_services

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7 * 7 }}</pre></title>"""
METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}


class Elements(HTMLParser):
    """Every element of a page in order, and whether they are nested as they should be."""

    VOID = {"meta", "link", "img", "wbr", "br"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.all.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.all for key, value in attributes.items() if key == name]

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.all]


async def open_page(document: Mapping[str, Any], url: str = "/docs", **headers: str) -> httpx2.Response:
    """A page of an application that has nothing but the pages of this document."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    respond.install(app, ClientAddresses(), RequestCounts())
    app.include_router(public_pages.new_router(lambda: document))
    app.include_router(assets.new_router())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://keywright.test") as client:
        return await client.get(url, headers=headers)


@cache
def origin() -> FastAPI:
    """The origin without all that its document and its pages have no business with. Made once."""
    return create_app(bare_services(), Clock())


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody without a key."""
    transport = httpx2.ASGITransport(app=origin())
    async with httpx2.AsyncClient(transport=transport, base_url="http://keywright.test") as client:
        yield client


@pytest.fixture(params=["/", "/docs"])
async def page(request: pytest.FixtureRequest, client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.get(request.param)


def test_a_page_is_open_to_everybody_and_may_load_only_its_own_style_and_icon(page: httpx2.Response) -> None:
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"


def test_a_page_names_no_other_host_and_holds_no_script_and_no_inline_style(page: httpx2.Response) -> None:
    elements = Elements(page.text)
    for address in elements.values("href") + elements.values("src"):
        assert re.match(r"#|/(?!/)", address), address
    assert not {"script", "style", "iframe", "form", "object", "base"} & set(elements.tags())
    names = {name for _, attributes in elements.all for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on") or name == "srcset"}


def test_a_page_can_be_walked_by_keyboard_and_ear(page: httpx2.Response) -> None:
    elements = Elements(page.text)
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    assert not [link for link in elements.values("href") if link.startswith("#") and link[1:] not in ids]
    assert not set(elements.values("aria-labelledby")) - set(ids)
    levels = [int(tag[1]) for tag in elements.tags() if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert elements.tags().count("main") == 1
    # The first thing to be focused leads past the navigation.
    assert next(attributes for tag, attributes in elements.all if tag == "a")["href"] == "#content"
    assert dict(elements.all)["html"]["lang"] == "en"


async def test_every_operation_of_the_document_is_on_the_page(client: httpx2.AsyncClient) -> None:
    document = origin().openapi()
    page = (await client.get("/docs")).text
    routes = [
        re.sub(r"<[^>]*>", "", found) for found in re.findall(r'<p class="route">(.*?)</p>', page, flags=re.DOTALL)
    ]
    expected = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item if method in METHODS
    }
    assert len(expected) > 30
    assert sorted(routes) == sorted(expected)


async def test_the_examples_lead_to_the_address_that_the_page_was_asked_at(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/docs", headers={"Host": "Keys.Example.com:8443"})).text
    assert "curl &#39;http://keys.example.com:8443/v1/who-am-i&#39;" in page
    assert "base-url.invalid" not in page
    behind_proxy = await client.get("/docs", headers={"X-Forwarded-Proto": "https"})
    assert "https://keywright.test/v1/who-am-i" in behind_proxy.text
    assert "http://keywright.test" not in behind_proxy.text
    assert behind_proxy.headers["etag"] != (await client.get("/docs")).headers["etag"]


@pytest.mark.parametrize("host", ["a'$(id)", "a b", "x/../y", "<b>", "a:123456", "", "-x", "a@b"])
async def test_a_host_that_is_no_plain_name_is_not_shown(host: str) -> None:
    page = (await open_page({"paths": {"/v1/who-am-i": {"get": {}}}}, Host=host)).text
    assert "curl &#39;http://127.0.0.1:8080/v1/who-am-i&#39;" in page


async def test_a_server_that_the_document_names_wins_over_the_address() -> None:
    document = {"paths": {"/things": {"get": {}}}, "servers": [{"url": "https://api.example.com/"}]}
    page = await open_page(document)
    assert "curl &#39;https://api.example.com/things&#39;" in page.text


@pytest.mark.parametrize("url", ["/", "/docs"])
async def test_a_page_is_answered_from_the_browsers_copy_while_it_is_the_same(
    client: httpx2.AsyncClient, url: str
) -> None:
    first = await client.get(url)
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    other = await client.get(url, headers={"If-None-Match": '"other"'})
    assert other.content == first.content


async def test_a_page_is_rendered_once() -> None:
    calls = []
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    respond.install(app, ClientAddresses(), RequestCounts())
    app.include_router(public_pages.new_router(lambda: calls.append(1) or {"paths": {}}))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://a") as client:
        assert calls == []
        for host in ("a", "b", "c"):
            assert (await client.get("/docs", headers={"Host": host})).status_code == 200
    assert calls == [1]


@pytest.mark.parametrize("url", ["/", "/docs", "/docs/"])
async def test_head_answers_as_get_without_the_body(client: httpx2.AsyncClient, url: str) -> None:
    get, head = await client.get(url), await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("url", ["/", "/docs"])
async def test_other_methods_are_refused_as_problems(client: httpx2.AsyncClient, url: str) -> None:
    answer = await client.post(url, json={})
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_pages_are_not_in_the_document() -> None:
    document = origin().openapi()
    assert not {"/", "/docs"} & set(document["paths"])
    assert not [path for path in document["paths"] if path.startswith("/docs")]


@pytest.mark.parametrize(("suffix", "media_type"), [(".css", "text/css; charset=utf-8"), (".svg", "image/svg+xml")])
async def test_an_asset_is_kept_for_ever_under_the_hash_of_its_bytes(
    client: httpx2.AsyncClient, suffix: str, media_type: str
) -> None:
    page = Elements((await client.get("/docs")).text)
    (url,) = {one for one in page.values("href") if one.endswith(suffix)}
    assert re.fullmatch(rf"/assets/\w+\.[0-9a-f]{{16}}\{suffix}", url)
    answer = await client.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.head(url)).status_code == 200
    # A style sheet that loads something would be a request to who knows where.
    assert "url(" not in answer.text
    assert "@import" not in answer.text


@pytest.mark.parametrize(
    "name",
    [
        "", "pages.css", "pages.0000000000000000.css", "../reference.py", "..%2freference.py", "%2e%2e/reference.py",
        "....//reference.py", "/etc/passwd", "%2fetc%2fpasswd", "..%5creference.py", "pages.css%00.svg", "icon.svg",
    ],
)  # fmt: skip
async def test_nothing_else_is_served_beside_the_assets(name: str) -> None:
    answer = await open_page({"paths": {}}, f"/assets/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_hostile_text_in_the_document_is_text_on_the_page() -> None:
    schema = {
        "type": "object", "title": HOSTILE, "description": HOSTILE, "required": [HOSTILE],
        "properties": {
            HOSTILE: {"type": HOSTILE, "format": HOSTILE, "default": HOSTILE, "examples": [HOSTILE]},
            "pattern": {"pattern": HOSTILE},
            "choice": {"enum": [HOSTILE], "description": f"`{HOSTILE}` **{HOSTILE}** [{HOSTILE}](/{HOSTILE})"},
        },
    }  # fmt: skip
    media = {HOSTILE: {"schema": schema, "example": {HOSTILE: HOSTILE}}}
    operation = {
        "tags": [HOSTILE], "summary": HOSTILE, "description": HOSTILE, "requestBody": {"content": media},
        "parameters": [
            {"in": place, "name": HOSTILE, "required": True, "description": HOSTILE, "example": HOSTILE}
            for place in ("path", "query", "header", "cookie")
        ],
        "responses": {
            "200": {"description": HOSTILE, "content": media, "headers": {HOSTILE: {"schema": schema}}},
            "400": {"description": HOSTILE, "content": media},
            HOSTILE: {"description": HOSTILE},
        },
        "security": [{HOSTILE: []}],
    }  # fmt: skip
    document = {
        "info": {"title": HOSTILE, "version": HOSTILE, "description": f"{HOSTILE}\n\n```\n{HOSTILE}\n```\n- {HOSTILE}"},
        "tags": [{"name": HOSTILE, "description": HOSTILE}],
        "paths": {f"/{HOSTILE}/{{{HOSTILE}}}": {"post": operation}},
        "components": {"securitySchemes": {HOSTILE: {"type": "apiKey", "in": "header", "name": HOSTILE}}},
    }
    clean = await open_page({"info": {}, "paths": {"/a": {"post": {}}}})
    hostile = await open_page(document)
    assert hostile.status_code == 200
    elements = Elements(hostile.text)
    assert "script" not in elements.tags()
    assert elements.tags().count("img") == Elements(clean.text).tags().count("img")
    assert not [name for _, attributes in elements.all for name in attributes if name.startswith("on")]
    assert not [one for one in elements.values("href") if not re.match(r"#|/(?!/)", one)]
    assert "{{ 7 * 7 }}" in hostile.text


async def test_links_of_descriptions_lead_only_to_this_host() -> None:
    text = "[a](/docs) [b](#errors) [c](//evil.example) [d](https://evil.example) [e](javascript:alert(1))"
    page = Elements((await open_page({"info": {"description": text}, "paths": {}})).text)
    links = page.values("href")
    assert "/docs" in links
    assert not [link for link in links if "evil" in link or "javascript" in link]


async def test_a_curl_example_reaches_the_server_as_it_stands(client: httpx2.AsyncClient) -> None:
    """A shell reads each example of the page as the words that were meant."""
    page = (await client.get("/docs")).text
    found = re.findall(r"<code>(curl .*?)</code>", page, flags=re.DOTALL)
    assert len(found) > 30
    script = 'curl() { printf \'%s\\0\' "$#" "$@"; }\n' + "\n".join(_unescaped(one) for one in found)
    ran = subprocess.run(
        ["sh", "-eu"],
        input=script,
        env={"API_KEY": "k", "CONSUMER_KEY": "c", "END_USER_TOKEN": "t"},
        text=True,
        capture_output=True,
        check=True,
    )
    assert ran.stderr == ""
    assert "/keys/$bulk" in ran.stdout
    assert "Authorization: Bearer k\0" in ran.stdout
    assert "$API_KEY" not in ran.stdout


async def test_the_pages_are_served_beside_the_planes(embedded: Service) -> None:
    for url in ("/", "/docs", "/openapi.json", "/readyz"):
        answer = await embedded.client.get(url, headers={"Authorization": ""})
        assert answer.status_code == 200, url


async def test_the_example_of_the_walk_makes_a_consumer(embedded: Service) -> None:
    document = await embedded.call("GET", "/openapi.json")
    media = document["paths"]["/v1/accounts/{accountName}/key-buckets/{bucketName}/consumers"]["post"]["requestBody"]
    await embedded.call("POST", embedded.consumers_url, json=media["content"]["application/json"]["example"])


def _unescaped(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", text))
