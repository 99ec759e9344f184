"""The admin portal in a real browser: every page, every action; by keyboard, without a script, with hostile values."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from developer_portal.people import LOGO
from support import browser as browsers
from support.browser import watched
from support.portal import ACCOUNT, BUCKET, ROOT_KEY, Portal, sign_in

pytestmark = pytest.mark.long(75)

SECRET = re.compile(r"^(kwak|kwmk)_[0-9a-f]{32}_[0-9a-f]{8}$")
OPEN_PAGES = ("/", "/docs", "/admin/sign-in", "/admin/sign-in?ended=1")
HOSTILE = (
    """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7*7 }}</textarea></title><svg onload=alert(3)>"""
)


@pytest.fixture
def page(browser: Browser, portal: Portal) -> Iterator[Page]:
    """A page of somebody who is signed in with the root key."""
    with watched(browser, portal.url) as (context, page):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        sign_in(page)
        yield page


@pytest.mark.parametrize("part", range(3))
def test_no_page_has_a_barrier_a_shift_or_a_part_out_of_sight(
    browser: Browser, portal: Portal, pages: dict[str, str], part: int
) -> None:
    """Each page light on a desktop and dark on a phone, so that every colour and every layout is looked at once.

    A third of the pages each time, the first with the two below.
    """
    barriers = []
    with watched(browser, portal.url) as (_, page):

        def look() -> None:
            for view, scheme in ((browsers.DESKTOP, "light"), (browsers.PHONE, "dark")):
                page.set_viewport_size(view)
                page.emulate_media(color_scheme=scheme)
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= view["width"], f"{page.url} is {width} wide"
                barriers.append(browsers.find_barriers(page))
            page.set_viewport_size(browsers.DESKTOP)

        def visit(path: str) -> None:
            page.goto(path)
            assert browsers.layout_shifts(page) == "", path
            # The reference has some forty operations, all of one template; axe looks at three of them.
            page.evaluate("[...document.querySelectorAll('article.part')].slice(3).forEach((one) => one.remove())")
            look()

        for path in OPEN_PAGES[part::3]:
            visit(path)
        sign_in(page)
        for path in list(pages.values())[part::3]:
            visit(path)
        # A form that was refused, and a key that was just made.
        if part == 0:
            page.goto(pages["consumer-new"])
            page.get_by_label("Name", exact=True).fill("Not A Name")
            page.get_by_role("button", name="Create consumer").click()
            expect(page.locator(".error")).to_have_count(1)
            look()
            page.goto(pages["owner-key-new"])
            page.get_by_role("button", name="Create owner key").click()
            expect(page.locator(".secret")).to_be_visible()
            look()
    assert "".join(barriers) == ""


def test_the_life_of_a_consumer_and_its_keys(page: Page, pages: dict[str, str], portal: Portal) -> None:
    page.goto(pages["consumers"])
    page.get_by_role("link", name="Create consumer").click()
    page.get_by_label("Name", exact=True).fill("walked-consumer")
    page.get_by_label("Description").fill("Made on a walk")
    page.get_by_label("Managers").fill("ada@example.com\nBob@Example.com")
    page.get_by_label("Metadata").fill('{"plan": "gold"}')
    page.get_by_label("Tags").fill("plan=gold\nregion=eu")
    page.get_by_role("button", name="Create consumer").click()
    first = page.locator("#secret").inner_text()
    assert SECRET.fullmatch(first)
    assert portal.process.verdict(first) == "VALID"
    # The key stands in no address, and going on leaves it behind.
    assert first not in page.url
    page.get_by_role("link", name="Go to consumer").click()
    assert first not in page.content()
    expect(page.get_by_text("bob@example.com")).to_be_visible()
    expect(page.get_by_text('"plan": "gold"')).to_be_visible()

    page.get_by_role("button", name="Reveal").click()
    expect(page.locator(".masked")).to_have_text(first)
    page.get_by_role("button", name="Hide").click()
    expect(page.locator(".masked")).to_have_text(f"****{first[-8:]}")
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == first
    assert first not in page.content()

    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Description").fill("Nightly export")
    page.get_by_label("Expires").select_option("30d")
    page.get_by_role("button", name="Create key").click()
    second = page.locator("#secret").inner_text()
    page.get_by_role("link", name="Back to consumer").click()
    row = page.locator("li", has_text="Nightly export")
    expect(row.get_by_text("Expires in 29 days")).to_be_visible()

    row.get_by_role("link", name="Edit").click()
    # The date is asked for only where a date was chosen.
    expect(page.get_by_label("Date and time")).to_be_visible()
    page.get_by_label("Expires").select_option("never")
    expect(page.get_by_label("Date and time")).to_be_hidden()
    page.get_by_label("Description").fill("Of the weekly export")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").get_by_text("Key saved.")).to_be_visible()

    page.get_by_role("link", name="Roll keys").click()
    page.get_by_label("Other keys expire").select_option("now")
    page.get_by_role("button", name="Roll keys").click()
    third = page.locator("#secret").inner_text()
    assert [portal.process.verdict(key) for key in (first, second, third)] == ["EXPIRED", "EXPIRED", "VALID"]
    page.get_by_role("link", name="Back to consumer").click()
    expect(page.get_by_text("The rolled keys no longer work. Applied on the edge.")).to_be_visible()

    page.locator("li", has_text=third[-8:]).get_by_role("link", name="Revoke").click()
    page.get_by_role("link", name="Cancel").click()
    assert portal.process.verdict(third) == "VALID"
    page.locator("li", has_text=third[-8:]).get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_text("Key revoked.")).to_be_visible()
    assert portal.process.verdict(third) == "UNKNOWN"

    page.get_by_label("Invite by e-mail").fill("eve@example.com")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("Invited eve@example.com")).to_be_visible()
    expect(page.get_by_text("Share this link yourself")).to_contain_text("/portal/my-project-production")
    page.get_by_role("link", name="Remove eve@example.com").click()
    page.get_by_role("button", name="Withdraw invite").click()
    expect(page.get_by_text("Removed eve@example.com")).to_be_visible()

    page.get_by_role("link", name="Edit", exact=True).first.click()
    page.get_by_label("Metadata").fill("{oops}")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#f-metadata-error")).to_contain_text("Is not JSON")
    page.get_by_label("Metadata").fill("{}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Consumer saved.")).to_be_visible()

    page.get_by_role("link", name="Delete").click()
    page.get_by_role("textbox").fill("walked-consumer")
    page.get_by_role("button", name="Delete consumer").click()
    expect(page.get_by_text("Consumer walked-consumer deleted")).to_be_visible()


@pytest.mark.parametrize(
    ("way", "words", "found"),
    [
        ("Name", "harb", ["blue-harbor"]),
        ("Tag", "plan=silver", ["northwind", "kestrel-air", "hillcrest", "ember-studio", "blue-harbor"]),
        ("Manager", "Bob@Northwind.example", ["northwind"]),
        ("Name", "%", []),
    ],
)  # fmt: skip
def test_a_consumer_is_found(page: Page, pages: dict[str, str], way: str, words: str, found: list[str]) -> None:
    page.goto(pages["consumers"])
    page.get_by_label("Search by").select_option(label=way)
    page.get_by_label("Search for").fill(words)
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**?by=*")
    names = page.locator("a.name").all_inner_texts()
    assert names == found
    page.get_by_role("link", name="Clear search").first.click()
    page.wait_for_url(re.compile("production$"))


def test_the_life_of_a_bucket(page: Page, pages: dict[str, str]) -> None:
    page.goto(pages["buckets"])
    page.get_by_label("Environment").select_option("preview")
    page.wait_for_url("**environment=preview*")
    expect(page.locator("a.name")).to_have_text(["payments-preview", "my-project-preview"])
    page.get_by_role("link", name="Create bucket").click()
    page.get_by_label("Name", exact=True).fill("walked-bucket")
    page.get_by_label("Key prefix").fill("walk")
    page.get_by_label("Keys can be revealed later").uncheck()
    page.get_by_role("button", name="Create bucket").click()
    assert SECRET.fullmatch(page.locator("#secret").inner_text())
    page.get_by_role("link", name="Go to bucket").click()
    expect(page.get_by_role("heading", name="No consumers yet")).to_be_visible()

    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_text("No, only hashes are stored")).to_be_visible()
    page.get_by_label("Description").fill("Seen on a walk")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Settings saved.")).to_be_visible()

    page.get_by_role("link", name="Sharing").click()
    page.get_by_label("Account").last.fill("none-such")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_text("Not found")).to_be_visible()
    page.go_back()
    page.get_by_label("Account").last.fill("partner-account")
    page.get_by_label("Access").select_option("write")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_text("Bucket shared with partner-account.")).to_be_visible()
    page.get_by_role("link", name="Stop sharing with partner-account").click()
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("heading", name="Not shared")).to_be_visible()

    page.get_by_role("link", name="Owner keys").click()
    page.get_by_role("link", name="Create owner key").click()
    page.get_by_label("Description").fill("Of the gateway")
    page.get_by_role("button", name="Create owner key").click()
    page.get_by_role("link", name="Back to owner keys").click()
    page.locator("li", has_text="Of the gateway").get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke owner key").click()
    expect(page.get_by_text("Owner key revoked")).to_be_visible()

    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Delete bucket").click()
    page.get_by_role("textbox").fill("walked-bucket")
    page.get_by_role("button", name="Delete bucket").click()
    expect(page.get_by_text("Bucket walked-bucket deleted.")).to_be_visible()


def test_what_users_see_and_may_do(page: Page, pages: dict[str, str]) -> None:
    page.goto(pages["self-serve"])
    page.get_by_label("Users can create consumers").check()
    page.get_by_label("Max. consumers per user").fill("3")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Settings saved.")).to_be_visible()
    expect(page.get_by_label("Users can create consumers")).to_be_checked()
    page.get_by_role("link", name="Portal", exact=True).click()
    page.get_by_label("Name", exact=True).fill("Weather API")
    page.get_by_label("Color").fill("blue")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#f-color-error")).to_have_text("Must be a colour such as #0f5c6e.")
    page.get_by_label("Color").fill("#e8590c")
    large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(65 * 1024)}
    page.get_by_label("Logo").set_input_files(large)
    page.get_by_role("button", name="Save").click()
    assert page.get_by_label("Logo").evaluate("(input) => input.validationMessage") == (
        "Choose an image of at most 64 KiB."
    )
    small = {"name": "small.png", "mimeType": "image/png", "buffer": base64.b64decode(LOGO.partition(",")[2])}
    page.get_by_label("Logo").set_input_files(small)
    expect(page.locator("#f-logo")).to_have_value(LOGO)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Branding saved.")).to_be_visible()
    assert page.get_by_role("img", name="Current logo").evaluate("(image) => image.naturalWidth") == 32
    assert browsers.find_barriers(page) == ""
    page.get_by_role("link", name="View portal").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("Weather API").first).to_be_visible()


def test_somebody_with_a_role_signs_in_with_the_provider(browser: Browser, portal: Portal) -> None:
    # Not watched: the way leads to another host, and back.
    with browser.new_context(base_url=portal.url) as context:
        context.set_default_timeout(browsers.TIMEOUT_MS)
        page = context.new_page()
        page.goto(BUCKET)
        page.get_by_role("link", name="Sign in with SSO").click()
        page.wait_for_url(f"**{BUCKET}")
        expect(page.locator(".rail").get_by_text("ada@example.com")).to_be_visible()
        expect(page.get_by_role("link", name="Create consumer")).to_be_visible()
        page.get_by_role("link", name="Settings").click()
        expect(page.get_by_role("heading", name="About")).to_be_visible()
        expect(page.get_by_role("link", name="Delete bucket")).to_have_count(0)


def test_accounts_projects_and_management_keys(page: Page, pages: dict[str, str]) -> None:
    page.goto(pages["accounts"])
    page.get_by_role("link", name="Create account").click()
    page.get_by_label("Name", exact=True).fill("walked-account")
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("link", name="Create its first management key").click()
    page.get_by_label("Description").fill("Of the team")
    page.get_by_label("Account access").select_option("write")
    page.get_by_role("button", name="Create management key").click()
    assert SECRET.fullmatch(page.locator("#secret").inner_text())
    page.get_by_role("link", name="Back to management keys").click()
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke management key").click()
    expect(page.get_by_text("Management key revoked")).to_be_visible()

    page.locator(".rail .switcher summary").click()
    page.get_by_role("link", name="my-account", exact=True).first.click()
    page.get_by_role("link", name="Create project").click()
    page.get_by_label("Name", exact=True).fill("walked")
    page.get_by_role("button", name="Create project").click()
    expect(page.locator("a.name")).to_have_text(["walked-production", "walked-preview", "walked-working-copy"])
    page.get_by_role("link", name="Delete project").click()
    page.get_by_role("textbox").fill("walked")
    page.get_by_role("button", name="Delete project").click()
    expect(page.get_by_text("Project walked and its buckets deleted.")).to_be_visible()

    page.get_by_role("link", name="Audit log").first.click()
    page.get_by_label("Action").fill("project.delete")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_theme_is_chosen_at_once_and_for_good(page: Page, pages: dict[str, str]) -> None:
    page.goto(pages["buckets"])
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    with page.expect_response("**/theme"):
        page.get_by_role("button", name="Dark").first.click()
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert light != dark
    for path in (pages["buckets"], "/docs"):
        page.goto(path)
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == dark


def test_everything_works_without_a_script(browser: Browser, portal: Portal, pages: dict[str, str]) -> None:
    with watched(browser, portal.url, java_script_enabled=False) as (_, page):
        sign_in(page)
        page.goto(pages["consumers"] + "/consumers/new")
        page.get_by_label("Name", exact=True).fill("scriptless")
        page.get_by_role("button", name="Create consumer").click()
        secret = page.locator("#secret").inner_text()
        page.get_by_role("link", name="Go to consumer").click()
        # What needs a script is not there to be tried.
        expect(page.get_by_role("button", name="Copy")).to_be_hidden()
        page.get_by_role("button", name="Reveal").click()
        expect(page.locator(".masked")).to_have_text(secret)
        page.get_by_role("link", name="Hide").click()
        expect(page.locator(".masked")).to_have_text(f"****{secret[-8:]}")
        page.get_by_role("button", name="Dark").first.click()
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("textbox").fill("scriptless")
        page.get_by_role("button", name="Delete consumer").click()
        expect(page.get_by_text("Consumer scriptless deleted")).to_be_visible()


def tab_to(page: Page, words: str) -> None:
    """Presses Tab until what is focused has this name, and sees to it that it shows that it is focused."""
    for _ in range(80):
        page.keyboard.press("Tab")
        name, is_seen = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
            const name = e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent;
            return [name.trim(), s.outlineStyle !== "none"]; }"""
        )
        if name == words:
            assert is_seen, words
            return
    raise AssertionError(f"{words} can't be reached")


def enter(page: Page) -> None:
    """Presses Enter on what leads to another page, and waits for that."""
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_the_main_ways_can_be_walked_by_keyboard_alone(browser: Browser, portal: Portal) -> None:
    with watched(browser, portal.url) as (_, page):
        page.goto("/admin/sign-in")
        tab_to(page, "Management key")
        page.keyboard.type(ROOT_KEY)
        enter(page)
        page.wait_for_url("**/buckets")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.keyboard.press("Enter")
        tab_to(page, "my-project-preview")
        enter(page)
        page.wait_for_url("**/my-project-preview")
        tab_to(page, "Create consumer")
        enter(page)
        tab_to(page, "Name")
        page.keyboard.type("typed-consumer")
        enter(page)
        expect(page.locator("#secret")).to_be_visible()
        tab_to(page, "Go to consumer")
        enter(page)
        tab_to(page, "Reveal")
        page.keyboard.press("Enter")
        expect(page.locator(".masked")).to_have_text(SECRET)
        tab_to(page, "Revoke")
        enter(page)
        tab_to(page, "Revoke key")
        enter(page)
        expect(page.get_by_text("Key revoked")).to_be_visible()
        tab_to(page, "Sign out")
        enter(page)
        expect(page.get_by_text("You have been signed out.")).to_be_visible()


def open_every_page(page: Page, paths: list[str]) -> None:
    for path in paths:
        page.goto(path)
        page.wait_for_load_state("load")
        assert page.evaluate("window.hacked") is None


def test_hostile_values_are_text_on_every_page(page: Page, pages: dict[str, str], portal: Portal) -> None:
    bucket = "/my-account/key-buckets/my-project-working-copy"
    tags = {HOSTILE[:120]: HOSTILE, "javascript:alert(1)": "x"}
    body = {
        "name": "hostile", "description": HOSTILE, "tags": tags, "metadata": {HOSTILE: [HOSTILE]},
        "managers": [{"email": "'/onerror='alert`4`'@evil.example"}],
    }  # fmt: skip
    portal.call("POST", f"{bucket}/consumers", json=body)
    made = portal.call("POST", f"{bucket}/consumers/hostile/keys", json={"description": HOSTILE})
    portal.call("PATCH", bucket, json={"description": HOSTILE, "tags": tags})
    portal.call("POST", f"{bucket}/owner-keys", json={"description": HOSTILE})
    portal.new_management_key(HOSTILE, account="read")
    url = f"{ACCOUNT}/buckets/my-project-working-copy"
    consumer = f"{url}/consumers/hostile"
    open_every_page(
        page,
        [
            f"{ACCOUNT}/buckets", url, f"{url}/settings", f"{url}/sharing", f"{url}/owner-keys", f"{url}/delete",
            consumer, f"{consumer}/edit", f"{consumer}/roll", f"{consumer}/delete",
            f"{consumer}/keys/{made['id']}/edit", f"{consumer}/keys/{made['id']}/revoke",
            f"{ACCOUNT}/management-keys", f"{ACCOUNT}/audit-log",
            f"{url}?by=name&q={HOSTILE}", f"{url}?by={HOSTILE}&q=x&older={HOSTILE}",
            f"{ACCOUNT}/buckets?project={HOSTILE}", f"{ACCOUNT}/audit-log?action={HOSTILE}&from={HOSTILE}",
            f"{ACCOUNT}/buckets/{HOSTILE.replace('/', '')}",
        ],
    )  # fmt: skip
    # It stands there as it was written.
    page.goto(consumer)
    expect(page.locator(".lede")).to_have_text(HOSTILE)
    # Every form shows what was typed again, refused.
    for path, button in ((f"{url}/consumers/new", "Create consumer"), (f"{ACCOUNT}/management-keys/new", "Create")):
        page.goto(path)
        for box in page.locator("input.input:visible, textarea:visible").all():
            box.fill(HOSTILE)
        page.get_by_role("button", name=button).click()
        expect(page.locator(".error").first).to_be_visible()
    # A name of a management key that is hostile stands in the rail of whoever signs in with it.
    secret = portal.new_management_key(HOSTILE, account="read")
    context: BrowserContext = page.context
    context.clear_cookies()
    page.goto(f"/admin/sign-in?next={HOSTILE}")
    page.get_by_label("Management key").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/buckets")
    page.goto(BUCKET)
