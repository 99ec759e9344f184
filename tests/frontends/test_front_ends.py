"""Existing front ends, the real packages in a real browser, work unchanged against the Self-serve API.

`@zuplo/react-api-key-manager` is run whole. Of `zudoku` its application shell and its API-keys plugin are run from the
published package, bundled into a page; its development server and its sign-in are not.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from frontends.conftest import FrontEnds, clipboard
from support.api import CONSUMERS_URL
from support.process import until

# Not what comes before: it may fetch packages, and has a limit of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)


def consumers_of(front_ends: FrontEnds) -> list[dict[str, object]]:
    url = f"{CONSUMERS_URL}?manager-email={front_ends.user['email']}&include-api-keys=true&key-format=visible"
    found: list[dict[str, object]] = front_ends.api.call("GET", url)["data"]
    return found


def choose(page: Page, item: str) -> None:
    """An item of the menu behind the three dots."""
    page.locator(".zp-key-manager--simple-menu-button").first.click()
    page.get_by_role("button", name=item, exact=True).click()


def test_the_react_component_lists_reveals_copies_renames_rolls_and_deletes(front_ends: FrontEnds) -> None:
    made = front_ends.new_consumer(description="The test server")
    key = made["apiKeys"][0]["key"]

    page = front_ends.open("react-api-key-manager")
    expect(page.get_by_text("The test server")).to_be_visible()
    expect(page.get_by_text("*" * (len(key) - 8) + key[-8:])).to_be_visible()
    page.get_by_title("Show Key").click()
    expect(page.get_by_text(key)).to_be_visible()
    page.get_by_title("Copy Key").click()
    expect(page.locator(".zp-key-manager--key-control-button-active")).to_be_visible()
    assert clipboard(page) == key

    choose(page, "Edit Label")
    page.locator("input").fill("The other server")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The other server")).to_be_visible()
    assert front_ends.api.call("GET", f"{CONSUMERS_URL}/{made['name']}")["description"] == "The other server"

    choose(page, "Roll key")
    expect(page.get_by_title("Copy Key")).to_have_count(2)
    expect(page.get_by_text("expires in 7 days")).to_be_visible()
    assert front_ends.api.verdict(key) == "VALID"

    # Of the two keys only the old one, which ends, can be deleted.
    page.get_by_title("Delete Key").click()
    expect(page.get_by_title("Copy Key")).to_have_count(1)
    assert front_ends.api.verdict(key) == "UNKNOWN"
    assert page.locator(".zp-key-manager--consumer-control-error-text").count() == 0


def test_the_react_component_creates_and_deletes_consumers(front_ends: FrontEnds) -> None:
    page = front_ends.open("react-api-key-manager")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Made in the browser")).to_be_visible()
    (made,) = consumers_of(front_ends)
    (key,) = made["apiKeys"]  # type: ignore[misc]
    assert front_ends.api.verdict(key["key"]) == "VALID"

    choose(page, "Delete")
    expect(page.get_by_text("Made in the browser")).to_have_count(0)
    assert consumers_of(front_ends) == []
    assert front_ends.api.verdict(key["key"]) == "UNKNOWN"


def test_the_react_component_shows_what_the_service_refuses(front_ends: FrontEnds) -> None:
    made = front_ends.new_consumer(description="Deleted meanwhile")
    page = front_ends.open("react-api-key-manager")
    expect(page.get_by_text("Deleted meanwhile")).to_be_visible()
    front_ends.api.call("DELETE", f"{CONSUMERS_URL}/{made['name']}", expect=204)
    choose(page, "Roll key")
    expect(page.get_by_text(re.compile("You manage no such consumer"))).to_be_visible()


def test_zudoku_lists_reveals_renames_rolls_and_deletes(front_ends: FrontEnds) -> None:
    made = front_ends.new_consumer(description="The test server")
    key = made["apiKeys"][0]["key"]

    page = front_ends.open("zudoku")
    expect(page.get_by_role("heading", name="API Keys")).to_be_visible()
    expect(page.get_by_text("The test server")).to_be_visible()
    page.get_by_role("button", name="Reveal").click()
    expect(page.get_by_text(key)).to_be_visible()

    page.get_by_role("button", name="Edit label").click()
    page.get_by_role("textbox").last.fill("The other server")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The other server")).to_be_visible()
    # The page shows it before the service has it.
    url = f"{CONSUMERS_URL}/{made['name']}"
    until(lambda: front_ends.api.call("GET", url)["description"] == "The other server")

    page.get_by_title("Roll this key").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll Key").click()
    expect(page.get_by_role("button", name="Delete API key")).to_have_count(1)
    assert front_ends.api.verdict(key) == "EXPIRED"
    (shown,) = consumers_of(front_ends)
    assert front_ends.api.verdict(shown["apiKeys"][0]["key"]) == "VALID"  # type: ignore[index]

    page.get_by_role("button", name="Delete API key").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="Delete API key")).to_have_count(0)
    until(lambda: front_ends.api.verdict(key) == "UNKNOWN")


def test_zudoku_shows_that_there_is_nothing_yet(front_ends: FrontEnds) -> None:
    page = front_ends.open("zudoku")
    expect(page.get_by_text("You have no API keys yet.")).to_be_visible()
