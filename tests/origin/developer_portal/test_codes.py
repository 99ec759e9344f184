"""The code beside a sign-in link: for who reads mail elsewhere, typed into the browser that asked, and tried rarely."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import httpx2
import pytest
import sqlalchemy as sa

from keywright.origin.auth import email_links
from keywright.origin.db.tables import sign_in_links
from origin.developer_portal.people import LinkPortal, new_address
from origin.developer_portal.test_links import later
from support.visitor import Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRONG = "Is wrong or has expired"


async def code_for(links: LinkPortal, visitor: Visitor, email: str) -> str:
    await links.ask_for_link(visitor, email)
    found = re.search(r"^ +(\d{4}) (\d{4})\s*$", links.mailbox.to(email)[-1].get_content(), re.MULTILINE)
    assert found
    return f"{found[1]}{found[2]}"


async def type_code(links: LinkPortal, visitor: Visitor, code: str, expect: int, **fields: str) -> httpx2.Response:
    hidden = await visitor.hidden(f"{links.url}/sign-in")
    return await visitor.send_again(f"{links.url}/sign-in/code", {**hidden, "code": code, **fields}, expect)


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10**8:08}"


async def test_a_code_signs_in_the_browser_that_asked_and_once(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada, description="The test server")
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        wanted = f"{links.url}/consumers/new"
        # As it is printed, and as people type.
        answer = await type_code(links, visitor, f" {code[:4]}-{code[4:]} ", 303, next=wanted)
        assert answer.headers["location"] == wanted
        assert "The test server" in await visitor.open(links.url)
        await visitor.send(f"{links.url}/sign-out", links.url)
        assert WRONG in (await type_code(links, visitor, code, 400)).text


async def test_a_code_leads_nowhere_else(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        answer = await type_code(links, visitor, code, 303, next="https://evil.example")
        assert answer.headers["location"] == links.url


async def test_a_code_is_worth_nothing_in_another_browser(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor, visiting(links.service, None) as thief:
        code = await code_for(links, visitor, ada)
        await code_for(links, thief, ada)
        assert WRONG in (await type_code(links, thief, code, 400)).text


async def test_a_few_wrong_codes_end_the_right_one_but_not_the_link(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        for _ in range(email_links.CODE_TRIES):
            assert WRONG in (await type_code(links, visitor, other(code), 400)).text
        assert WRONG in (await type_code(links, visitor, code, 400)).text
        link = await links.mailbox.link_for(ada)
        await visitor.send(f"{links.url}/sign-in/link", link.partition("keywright.test")[2])
    wanted = {"action": "portal.sign-in", "limit": 20}
    entries = (await links.service.call("GET", f"{links.service.account_url}/audit-logs", params=wanted))["data"]
    errors = [entry["error"] for entry in entries]
    assert errors[: email_links.CODE_TRIES + 1] == [None, *["A wrong code."] * email_links.CODE_TRIES]


async def test_many_tries_at_once_are_counted_one_by_one(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        fields = {**await visitor.hidden(f"{links.url}/sign-in"), "code": other(code)}
        url = f"{links.url}/sign-in/code"
        await asyncio.gather(*(visitor.send_again(url, fields, 400) for _ in range(8)))
        assert WRONG in (await type_code(links, visitor, code, 400)).text


async def test_a_code_ends_with_its_link(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        with later(links, timedelta(minutes=15)):
            assert WRONG in (await type_code(links, visitor, code, 400)).text


async def test_nobody_learns_by_a_code_who_is_known(links: LinkPortal) -> None:
    ada, stranger = new_address("ada"), new_address("stranger")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as one, visiting(links.service, None) as two:
        await code_for(links, one, ada)
        await two.send(f"{links.url}/sign-in", expect=200, email=stranger)
        pages = [
            (await type_code(links, visitor, "12345678", 400, email=email)).text.replace(email, "?")
            for visitor, email in ((one, ada), (two, stranger))
        ]
    assert len({re.sub(r'value="[^"]*"', "", page) for page in pages}) == 1


@pytest.mark.parametrize("code", ["", "x", "1234567", "0" * 9, "١٢٣٤٥٦٧٨", "%00"], ids=repr)
async def test_what_is_no_code_is_refused(links: LinkPortal, code: str) -> None:
    async with visiting(links.service, None) as visitor:
        await type_code(links, visitor, code, 400)


async def test_no_row_tells_a_code(links: LinkPortal) -> None:
    ada = new_address("ada")
    await links.new_consumer(ada)
    async with visiting(links.service, None) as visitor:
        code = await code_for(links, visitor, ada)
        async with links.service.app._database.read() as tx:
            rows = await tx.all(sa.select(sign_in_links).where(sign_in_links.c.email == ada))
        assert rows
        assert code not in str(rows)
