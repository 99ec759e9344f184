"""Every page and action of the developer portal, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from developer_portal.people import Portal
from support.api import CONSUMERS_URL
from support.process import until


def test_an_invited_user_signs_in_and_looks_after_the_keys(portal: Portal) -> None:
    ada = portal.new_address()
    made = portal.new_consumer(ada, description="The test server")
    key = made["apiKeys"][0]["key"]

    page = portal.sign_in(ada)
    expect(page.get_by_text("1 active key")).to_be_visible()
    page.get_by_role("link", name="The test server").click()

    # The key is masked, and its text is nowhere on the page until it is asked for.
    expect(page.get_by_text(f"****{key[-8:]}")).to_be_visible()
    assert key not in page.content()
    page.get_by_role("button", name="Reveal first").click()
    expect(page.get_by_text(key)).to_be_visible()
    page.get_by_role("button", name="Reveal first").click()
    expect(page.get_by_text(key)).to_have_count(0)
    page.get_by_role("button", name="Copy first").click()
    expect(page.get_by_text("Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == key

    page.get_by_role("link", name="Rename").click()
    page.get_by_label("Name").fill("The other server")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="The other server")).to_be_visible()
    expect(page.get_by_text("Name saved.")).to_be_visible()

    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Description").fill("second")
    page.get_by_label("Expires").select_option(label="In 30 days")
    page.get_by_role("button", name="Create key").click()
    second = page.locator("#secret").inner_text()
    assert portal.api.verdict(second) == "VALID"
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_text("Expires in 29 days")).to_be_visible()

    page.get_by_role("link", name="Roll keys").click()
    page.get_by_label("Current keys expire").select_option(label="In 24 hours")
    page.get_by_role("button", name="Roll").click()
    expect(page.get_by_text(re.compile("Your current keys expire on .* UTC"))).to_be_visible()
    third = page.locator("#secret").inner_text()
    assert portal.api.verdict(third) == "VALID"
    assert portal.api.verdict(key) == "VALID"
    # Going back and on again makes no further key.
    page.reload()
    page.goto(portal.url)
    page.get_by_role("link", name="The other server").click()
    expect(page.get_by_role("button", name=re.compile("^Reveal"))).to_have_count(3)

    page.get_by_role("link", name="Delete first").click()
    page.get_by_role("button", name="Delete key").click()
    expect(page.get_by_text("Key deleted. This has taken effect everywhere.")).to_be_visible()
    assert portal.api.verdict(key) == "UNKNOWN"

    page.get_by_role("link", name="Roll keys").click()
    page.get_by_label("Current keys expire").select_option(label="Immediately")
    page.get_by_role("button", name="Roll").click()
    expect(page.get_by_text("Your other keys no longer work.")).to_be_visible()
    assert portal.api.verdict(second) == portal.api.verdict(third) == "EXPIRED"
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_text("Your other keys no longer work. This has taken effect everywhere.")).to_be_visible()

    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete consumer and keys").click()
    expect(page.get_by_text("No access yet")).to_be_visible()
    portal.api.call("GET", f"{CONSUMERS_URL}/{made['name']}", expect=404)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You have been signed out.")).to_be_visible()


def test_examples_call_the_providers_api(portal: Portal) -> None:
    ada = portal.new_address()
    made = portal.new_consumer(ada)
    page = portal.sign_in(ada)
    page.goto(f"{portal.url}/consumers/{made['name']}")
    for title, start in [("curl", "curl -H"), ("Python", "urllib.request"), ("JavaScript", "await fetch")]:
        page.locator("summary", has_text=title).click() if title != "curl" else None
        sample = page.locator(f"#sample-{title.lower()}")
        expect(sample).to_be_visible()
        assert start in sample.inner_text()
        assert "https://api.weather.example.com/v1/today" in sample.inner_text()
    page.get_by_role("button", name="Copy the JavaScript example").click()
    expect(page.get_by_text("Copied").first).to_be_visible()
    assert "await fetch" in page.evaluate("navigator.clipboard.readText()")


def test_fellow_managers_are_invited_and_removed_and_the_last_one_stays(portal: Portal) -> None:
    ada, bob = portal.new_address("ada"), portal.new_address("bob")
    made = portal.new_consumer(ada, description="Shared")
    page = portal.sign_in(ada)
    page.get_by_role("link", name="Shared").click()
    page.get_by_role("link", name="Managers").click()
    expect(page.get_by_role("link", name=re.compile("Remove|Leave"))).to_have_count(0)

    page.get_by_label("E-mail address").fill("not an address")
    page.locator("form[action$='/managers']").evaluate("form => { form.noValidate = true; }")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("Must be an e-mail address.")).to_be_visible()
    page.get_by_label("E-mail address").fill(bob)
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text(f"Invited {bob}")).to_be_visible()
    # There is no mail server: whoever invites is told, and given the address.
    expect(page.get_by_text("Share this link yourself")).to_contain_text(portal.url)
    page.get_by_label("E-mail address").fill(bob)
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("already")).to_be_visible()

    other = portal.sign_in(bob)
    other.get_by_role("link", name="Shared").click()
    other.get_by_role("link", name="Managers").click()
    other.get_by_role("link", name=f"Remove {ada}").click()
    other.get_by_role("button", name="Remove").click()
    expect(other.get_by_text(f"Removed {ada}.")).to_be_visible()
    expect(other.get_by_role("link", name=re.compile("Remove|Leave"))).to_have_count(0)
    page.goto(f"{portal.url}/consumers/{made['name']}")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()

    # An invite can be taken back.
    other.get_by_label("E-mail address").fill(portal.new_address("carol"))
    other.get_by_role("button", name="Invite").click()
    other.get_by_role("link", name=re.compile("Withdraw")).click()
    other.get_by_role("button", name="Remove").click()
    expect(other.get_by_text("Invited", exact=True)).to_have_count(0)


def test_a_user_without_a_consumer_makes_one_where_the_owner_allows_it(portal: Portal) -> None:
    portal.allow(createConsumers=True, maxConsumers=1)
    page = portal.sign_in(portal.new_address())
    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Description").fill("My first project")
    page.get_by_role("button", name="Create key").click()
    key = page.locator("#secret").inner_text()
    assert portal.api.verdict(key) == "VALID"
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("heading", name="My first project")).to_be_visible()
    # One is all that the owner allows.
    page.goto(f"{portal.url}/new")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("at most 1 consumers")).to_be_visible()


def test_a_consumer_that_was_deleted_in_another_tab_is_told_of(portal: Portal) -> None:
    ada = portal.new_address()
    made = portal.new_consumer(ada, description="Soon gone")
    page = portal.sign_in(ada)
    page.get_by_role("link", name="Soon gone").click()
    page.get_by_role("link", name="Create key").click()
    portal.api.call("DELETE", f"{CONSUMERS_URL}/{made['name']}", expect=204)
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()


def test_without_a_script_every_action_works(portal: Portal) -> None:
    ada = portal.new_address()
    made = portal.new_consumer(ada, description="Plain")
    page = portal.sign_in(ada, java_script_enabled=False)
    page.get_by_role("link", name="Plain").click()
    page.get_by_role("button", name="Reveal first").click()
    expect(page.locator("#secret")).to_have_text(made["apiKeys"][0]["key"])
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="Roll keys").click()
    page.get_by_role("button", name="Roll").click()
    expect(page.locator("#secret")).to_be_visible()


def test_who_reads_mail_elsewhere_types_the_code_into_the_page_left_open(portal: Portal) -> None:
    ada = portal.new_address()
    portal.new_consumer(ada, description="The test server")
    page = portal.new_page()
    portal.ask_for_link(page, ada)
    portal.link_for(ada)
    (code,) = re.findall(rf"Mail to {re.escape(ada)}:.*?\n +(\d{{4}} \d{{4}})\s", portal.served.output(), re.DOTALL)

    page.get_by_label("Code from the e-mail").fill("0000 0000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Is wrong or has expired")).to_be_visible()
    expect(page.get_by_text(ada)).to_be_visible()
    page.get_by_label("Code from the e-mail").fill(code)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="The test server")).to_be_visible()


def test_a_session_that_ends_keeps_what_was_typed(portal: Portal) -> None:
    ada = portal.new_address()
    made = portal.new_consumer(ada)
    page = portal.sign_in(ada)
    place = f"{portal.url}/consumers/{made['name']}"
    page.goto(f"{place}/keys/new")
    page.get_by_label("Description").fill("Typed for long")
    page.get_by_label("Expires").select_option(label="In 30 days")
    other = page.context.new_page()
    other.goto(portal.url)
    other.get_by_role("button", name="Sign out").click()
    other.get_by_text("You have been signed out.").wait_for()

    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("What you typed is kept on this page.")).to_be_visible()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Sign in in a new tab").click()
    fresh = opened.value
    fresh.get_by_label("E-mail address").fill(ada)
    before = portal.served.output().count(f"Mail to {ada}:")
    fresh.get_by_role("button", name="Send link").click()
    until(lambda: portal.served.output().count(f"Mail to {ada}:") > before)
    fresh.goto(portal.link_for(ada))
    fresh.get_by_role("button", name="Sign in").click()
    fresh.get_by_role("heading", name="Your API keys").wait_for()

    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("You have signed in or out since this form was opened.")).to_be_visible()
    expect(page.get_by_label("Description")).to_have_value("Typed for long")
    page.get_by_role("button", name="Create key").click()
    assert portal.api.verdict(page.locator("#secret").inner_text()) == "VALID"
