"""Every page of the developer portal: no barrier, nothing from another host, and hostile values stay text."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, Route

from developer_portal.people import BRAND, Portal
from support.api import BUCKET_URL
from support.browser import DESKTOP, PHONE, find_barriers, layout_shifts, watched
from support.proxy import Proxy

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}'`</title><!--"


def pages_of(portal: Portal, consumer: str, key: str, manager: str) -> list[str]:
    place = f"{portal.url}/consumers/{consumer}"
    return [
        portal.url, f"{portal.url}/new", f"{portal.url}/nothing", place, f"{place}/rename", f"{place}/delete",
        f"{place}/keys/new", f"{place}/roll", f"{place}/keys/{key}/delete", f"{place}/managers",
        f"{place}/managers/{manager}/remove",
    ]  # fmt: skip


def shown_pages(portal: Portal, email: str, description: str) -> list[str]:
    """The addresses of all pages for a user who is to sign in, with two managers and this description."""
    made = portal.new_consumer(email, "fellow@example.com", description=description)
    managers = portal.api.call("GET", f"{BUCKET_URL}/consumers/{made['name']}/managers?include-manager-invites=true")
    return pages_of(portal, made["name"], made["apiKeys"][0]["id"], managers["data"][0]["id"])


def open_page(page: Page, address: str) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == (404 if address.endswith("/nothing") else 200), address
    assert layout_shifts(page) == "", address


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_has_a_barrier_in_either_theme(portal: Portal, viewport: dict[str, int]) -> None:
    portal.allow(createConsumers=True)
    ada = portal.new_address()
    strange = portal.new_page(viewport=viewport)
    for address in (f"{portal.url}/sign-in", f"{portal.url}/sign-in?ended=1", f"{portal.url}/sign-in/link?token=x"):
        strange.goto(address)
        assert find_barriers(strange) == ""
    # The page that says that a link was sent, and the one that the link opens.
    portal.ask_for_link(strange, ada)
    assert find_barriers(strange) == ""
    strange.goto(portal.link_for(ada))
    assert find_barriers(strange) == ""
    addresses = shown_pages(portal, ada, "The test server")
    page = portal.sign_in(ada, viewport=viewport)
    for address in addresses:
        open_page(page, address)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            assert find_barriers(page, None if theme == "light" else "color-contrast") == ""
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} scrolls sideways"
    # A key that was just made.
    page.goto(f"{portal.url}/new")
    page.get_by_role("button", name="Create key").click()
    page.locator("#secret").wait_for()
    assert find_barriers(page) == ""


def test_nothing_moves_on_a_page_that_arrives_in_pieces_and_its_logo_late(portal: Portal) -> None:
    ada = portal.new_address()
    addresses = shown_pages(portal, ada, "The test server")
    cookies = portal.sign_in(ada).context.cookies()

    with Proxy(portal.served.port) as line, watched(portal.browser, line.url) as (context, page):

        def come_at_once(route: Route) -> None:
            route.fulfill(response=route.fetch(url=route.request.url.replace(line.url, portal.served.url)))

        def come_late(route: Route) -> None:
            time.sleep(1)
            come_at_once(route)

        # Without its styles a page shows nothing, so these are there; the page itself comes in pieces.
        context.route(re.compile(r"\.(css|js)\b"), come_at_once)
        context.route("**/logo?*", come_late)
        line.piece_bytes, line.delay_seconds = 500, 0.05
        context.add_cookies([{"name": one["name"], "value": one["value"], "url": line.url} for one in cookies])
        for address in addresses[:4]:
            open_page(page, address.replace(portal.served.url, line.url))
            assert page.locator(".brand img").evaluate("image => image.naturalWidth") > 0


def test_hostile_values_stay_text_on_every_page(portal: Portal) -> None:
    """The browser would tell of a dialog, a broken policy or a failing script."""
    ada = portal.new_address()
    brand = {"name": HOSTILE[:60], "links": [{"text": HOSTILE[:40], "url": "https://example.com/?q=%22%3E"}]}
    portal.api.call("PATCH", f"{BUCKET_URL}/portal", json=brand)
    try:
        addresses = shown_pages(portal, ada, HOSTILE)
        page = portal.sign_in(ada)
        for address in addresses:
            open_page(page, address)
            assert page.locator("img[src='x'], script:not([src])").count() == 0
        page.goto(portal.url)
        link = page.locator(".rows .name")
        assert link.inner_text() == HOSTILE
        link.click()
        page.get_by_role("link", name="Rename").click()
        page.get_by_label("Name").fill(HOSTILE * 2)
        page.get_by_role("button", name="Save").click()
        assert page.get_by_role("heading", level=1).inner_text() == HOSTILE * 2
    finally:
        portal.api.call("PATCH", f"{BUCKET_URL}/portal", json=BRAND)


def test_everything_can_be_done_with_the_keyboard_alone(portal: Portal) -> None:
    ada = portal.new_address()
    portal.new_consumer(ada, description="The test server")
    page = portal.sign_in(ada)

    def reach(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim()")
            if focused == name:
                return
        pytest.fail(f"{name!r} is not reached with the keyboard")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reach("The test server")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The test server").wait_for()
    reach("Create key")
    page.keyboard.press("Enter")
    page.get_by_label("Description").wait_for()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    page.locator("#secret").wait_for()
