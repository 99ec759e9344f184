"""A link signs in once, for a quarter of an hour, in the browser that asked for it, and tells strangers nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from origin.developer_portal.people import LinkPortal, new_address
from support.service import DEFAULT_SELF_SERVE
from support.visitor import visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")

GONE = "This link has been used or has expired."


@contextmanager
def later(portal: LinkPortal, passed: timedelta) -> Iterator[None]:
    """The service's clock, ahead by so much."""
    state = portal.service.app._origin.state
    before = state.services
    clock = before.dependencies.clock
    state.services = replace(before, dependencies=replace(before.dependencies, clock=lambda: clock() + passed))
    try:
        yield
    finally:
        state.services = before


async def test_a_link_signs_in_and_accepts_the_invite(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada.upper(), description="The test server")
    async with links.person(ada) as visitor:
        assert "The test server" in await visitor.open(links.url)
    url = f"{links.service.consumers_url}/{made['name']}/managers"
    (manager,) = (await links.service.call("GET", url))["data"]
    assert manager["sub"] == f"email-link|{ada}"
    audit = f"{links.service.account_url}/audit-logs"
    for written in (ada, ada.upper()):
        wanted = {"action": "portal.sign-in", "actor": written}
        (entry,) = (await links.service.call("GET", audit, params=wanted))["data"]
        assert entry["actor"]["connection"] == "email-link"


async def test_a_link_counts_once(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        link = await links.ask_for_link(visitor, ada)
        fields = await visitor.hidden(link)
        await visitor.send_again(f"{links.url}/sign-in/link", fields)
        await visitor.send(f"{links.url}/sign-out", links.url)
        assert GONE in await visitor.open(link, expect=400)
        again = {**await visitor.hidden(f"{links.url}/sign-in"), "token": fields["token"]}
        assert GONE in (await visitor.send_again(f"{links.url}/sign-in/link", again, expect=400)).text
        await visitor.open(links.url, expect=303)


async def test_looking_at_a_link_does_not_use_it_up(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor, visiting(links.service, None) as scanner:
        link = await links.ask_for_link(visitor, ada)
        await scanner.open(link, expect=400)
        await visitor.open(link)
        await visitor.send(f"{links.url}/sign-in/link", link)
        await visitor.open(links.url)


async def test_a_link_is_good_for_a_quarter_of_an_hour(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        link = await links.ask_for_link(visitor, ada)
        fields = await visitor.hidden(link)
        with later(links, timedelta(minutes=15)):
            assert GONE in await visitor.open(link, expect=400)
            answer = await visitor.send_again(f"{links.url}/sign-in/link", fields, expect=400)
            assert GONE in answer.text
        await visitor.open(links.url, expect=303)
        with later(links, timedelta(minutes=14)):
            await visitor.send_again(f"{links.url}/sign-in/link", fields)


async def test_a_link_works_in_the_browser_that_asked_alone(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as attacker, visiting(links.service, None) as victim:
        # Whoever asks can't use what only the owner of the mailbox sees, nor the other way round.
        link = await links.ask_for_link(attacker, ada)
        token = link.partition("token=")[2]
        shown = await victim.open(link, expect=400)
        assert "Open this link in the browser in which you requested it" in shown
        fields = {**await victim.hidden(f"{links.url}/sign-in"), "token": token}
        await victim.send_again(f"{links.url}/sign-in/link", fields, expect=400)
        await victim.open(links.url, expect=303)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 5000, "' or 1=1 --", "\x00", "ä"], ids=repr)
async def test_a_made_up_link_is_refused(links: LinkPortal, token: str) -> None:
    async with visiting(links.service, None) as visitor:
        assert GONE in await visitor.open(f"{links.url}/sign-in/link", 400, params={"token": token})


async def test_a_link_of_one_portal_is_none_of_another(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    other = "my-project-preview"
    async with visiting(links.service, None) as visitor:
        link = (await links.ask_for_link(visitor, ada)).replace(links.service.bucket, other)
        assert GONE in await visitor.open(link, expect=400)


async def test_nobody_learns_who_is_known(links: LinkPortal) -> None:
    ada, stranger = new_address("ada"), new_address("stranger")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as one, visiting(links.service, None) as other:
        known = await one.send(f"{links.url}/sign-in", expect=200, email=ada)
        unknown = await other.send(f"{links.url}/sign-in", expect=200, email=stranger)
        await links.mailbox.link_for(ada)
        assert known.text.replace(ada, "?").count("?") == unknown.text.replace(stranger, "?").count("?")
        assert "Check your email" in unknown.text
    assert links.mailbox.to(stranger) == []


async def test_whoever_may_make_a_consumer_gets_a_link(links: LinkPortal) -> None:
    stranger = new_address("stranger")
    await links.service.call("PATCH", links.service.bucket_url, json={"selfServe": {"createConsumers": True}})
    try:
        async with links.person(stranger) as visitor:
            assert "No API keys yet" in await visitor.open(links.url)
    finally:
        await links.service.call("PATCH", links.service.bucket_url, json={"selfServe": DEFAULT_SELF_SERVE})


async def test_the_link_leads_to_the_configured_address_whatever_host_was_asked(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None, Host="evil.example.com") as visitor:
        await visitor.send(f"{links.url}/sign-in", expect=200, email=ada)
        assert (await links.mailbox.link_for(ada)).startswith("http://keywright.test/portal/")


async def test_one_mailbox_is_not_flooded(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        statuses = []
        for _ in range(7):
            fields = {**await visitor.hidden(f"{links.url}/sign-in"), "email": ada}
            statuses.append((await visitor.client.post(f"{links.url}/sign-in", data=fields)).status_code)
    assert statuses[:5] == [200] * 5
    assert statuses[-1] == 429


async def test_a_mail_server_that_refuses_is_no_fault_page(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    links.mailbox.refuses = True
    try:
        async with visiting(links.service, None) as visitor:
            await visitor.send(f"{links.url}/sign-in", expect=200, email=ada)
    finally:
        links.mailbox.refuses = False
    assert links.mailbox.to(ada) == []


@pytest.mark.parametrize(
    "email",
    ["", "nobody", "a@b@c", "a b@example.com", "x" * 400 + "@example.com", "victim(1)@example.com",
     '"victim"@example.com', "victim@example.com.", "\u212aate@example.com"],
)  # fmt: skip
async def test_what_is_no_address_is_said_beside_the_field(links: LinkPortal, email: str) -> None:
    async with visiting(links.service, None) as visitor:
        answer = await visitor.send(f"{links.url}/sign-in", expect=400, email=email)
    assert 'id="f-email-error"' in answer.text


async def test_a_name_with_a_line_feed_can_add_no_header(links: LinkPortal) -> None:
    async with visiting(links.service, None) as visitor:
        await visitor.send(f"{links.url}/sign-in", expect=400, email="ada@example.com\nBcc: all@example.com")
