"""Whoever is invited in a portal is sent the way there; what becomes of the mail is told, and takes no invite back."""

from __future__ import annotations

import html
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from keywright.origin.consumers import invite_mail as invites
from keywright.origin.mail import Mailer, SmtpServer
from origin.developer_portal.people import LinkPortal, new_address
from support.service import DEFAULT_SELF_SERVE
from support.visitor import BUCKET, Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")

SENT = "Invite sent."
URL = "http://keywright.test/portal/my-project-production"


@contextmanager
def mailed_by(links: LinkPortal, mailer: Mailer) -> Iterator[None]:
    state = links.service.app._origin.state
    before = state.services
    state.services = replace(before, mailer=mailer)
    try:
        yield
    finally:
        state.services = before


async def people_of(links: LinkPortal, consumer: str) -> list[str]:
    url = f"{links.service.consumers_url}/{consumer}/managers?include-manager-invites=true"
    return [one["email"] for one in (await links.service.call("GET", url))["data"]]


async def invite(visitor: Visitor, page: str, email: str) -> str:
    """The page after it, as it is read."""
    answer = await visitor.send(f"{page}/managers", page=page, email=email)
    return html.unescape(await visitor.open(answer.headers["location"]))


async def test_a_fellow_manager_is_mailed_the_way_to_the_portal_and_comes(links: LinkPortal) -> None:
    ada, bob = new_address("ada"), new_address("bob")
    made = await links.new_consumer(ada, description="Buy at https://evil.example")
    async with links.person(ada) as visitor:
        page = f"{links.url}/consumers/{made['name']}/managers"
        await visitor.open(page)
        answer = await visitor.send(page, email=bob.upper())
        assert SENT in await visitor.open(answer.headers["location"])
    (message,) = links.mailbox.to(bob)
    text = message.get_content()
    assert f"{ada} has invited you" in text
    # What a user has written does not go to strangers in our name.
    assert "evil" not in text + message["Subject"]
    assert await links.mailbox.link_for(bob) == URL
    async with visiting(links.service, None) as other:
        assert (await other.client.get(URL)).headers["location"] == f"{links.url}/sign-in"
        await links.sign_in(other, bob)
        await other.open(f"{links.url}/consumers/{made['name']}")


async def test_the_admin_portal_mails_those_whom_it_invites(links: LinkPortal) -> None:
    emails = [new_address(name) for name in ("cleo", "dan")]
    made = await links.service.new_consumer()
    async with visiting(links.service) as visitor:
        assert SENT in await invite(visitor, f"{BUCKET}/consumers/{made['name']}", emails[0])
        fields = {"name": f"with-{made['name']}", "managers": emails[1], "with_key": "on", "expires": "never"}
        await visitor.send(f"{BUCKET}/consumers/new", expect=200, **fields)
        # The page with the key was the answer: the next one tells of the mail.
        assert SENT in await visitor.open(f"{BUCKET}/consumers/with-{made['name']}")
    for email in emails:
        (message,) = links.mailbox.to(email)
        # A management key has no address that could be named.
        assert message.get_content().startswith("You have been invited to manage API keys")
        assert await links.mailbox.link_for(email) == URL


@pytest.mark.parametrize("how", ["refuses", "is silent", "is not set up"])
async def test_a_mail_that_is_not_sent_is_told_and_loses_no_invite(
    links: LinkPortal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invites, "SEND_SECONDS", 30.0 if how == "refuses" else 0.5)
    email, made = new_address("eve"), await links.service.new_consumer()
    page = f"{BUCKET}/consumers/{made['name']}"
    # One takes connections and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {"refuses": links.mailbox.url, "is silent": f"smtp://127.0.0.1:{silent.getsockname()[1]}"}
        server = SmtpServer.of(urls[how]) if how in urls else None
        links.mailbox.refuses = True
        try:
            with mailed_by(links, Mailer(server, "keys@example.com")):
                async with visiting(links.service) as visitor:
                    shown = await invite(visitor, page, email)
        finally:
            links.mailbox.refuses = False
    assert "notice warning" in shown
    assert f"Invited {email}" in shown
    assert ("could not be sent" if server else "no mail server is configured") in shown
    assert f"Share this link yourself: {URL}" in shown
    assert await people_of(links, made["name"]) == [email]


async def test_of_many_mails_those_that_failed_are_counted(links: LinkPortal) -> None:
    emails = [new_address("flo"), new_address("guy")]
    async with visiting(links.service) as visitor:
        links.mailbox.refuses = True
        try:
            fields = {"name": new_address("several").partition("@")[0], "managers": "\n".join(emails)}
            answer = await visitor.send(f"{BUCKET}/consumers/new", **fields, expires="never")
        finally:
            links.mailbox.refuses = False
        assert "The e-mail to 2 of 2 addresses could not be sent" in await visitor.open(answer.headers["location"])


async def test_nobody_is_sent_to_a_portal_that_is_closed(links: LinkPortal) -> None:
    email, made = new_address("gil"), await links.service.new_consumer()
    await links.service.call("PATCH", links.service.bucket_url, json={"selfServe": {"enabled": False}})
    try:
        async with visiting(links.service) as visitor:
            shown = await invite(visitor, f"{BUCKET}/consumers/{made['name']}", email)
    finally:
        await links.service.call("PATCH", links.service.bucket_url, json={"selfServe": DEFAULT_SELF_SERVE})
    assert "No e-mail was sent, because self-serve is off" in shown
    assert links.mailbox.to(email) == []
    assert await people_of(links, made["name"]) == [email]


async def test_an_invite_that_is_refused_is_not_mailed(links: LinkPortal) -> None:
    email = new_address("hal")
    made = await links.service.new_consumer(managers=[email])
    page = f"{BUCKET}/consumers/{made['name']}"
    async with visiting(links.service) as visitor:
        await visitor.send(f"{page}/managers", page=page, expect=409, email=email)
        many: dict[str, Any] = {"name": "too-many", "expires": "never"}
        many["managers"] = "\n".join(f"i{number}-{email}" for number in range(51))
        answer = await visitor.send(f"{BUCKET}/consumers/new", expect=400, **many)
    assert "Must be at most 50." in answer.text
    assert links.mailbox.to(email) == links.mailbox.to(f"i0-{email}") == []


async def test_one_user_can_not_mail_the_whole_world(links: LinkPortal) -> None:
    ada = new_address("ada")
    made = await links.new_consumer(ada)
    page = f"{links.url}/consumers/{made['name']}/managers"
    statuses = []
    async with links.person(ada) as visitor:
        # Counted whether they leave or not.
        with mailed_by(links, Mailer(None, "keys@example.com")):
            shown = await visitor.hidden(page)
            for number in range(22):
                fields = {**shown, "form": f"form-{number}", "email": f"many-{number}-{ada}"}
                statuses.append((await visitor.client.post(page, data=fields)).status_code)
    assert statuses[:20] == [303] * 20
    assert statuses[-1] == 429
    # The one that was refused is no invite.
    assert f"many-21-{ada}" not in await people_of(links, made["name"])
