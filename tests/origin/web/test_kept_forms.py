"""A session that ends takes nothing with it that somebody has typed."""

from __future__ import annotations

import html
import re

import pytest

from support.service import Service
from support.visitor import BUCKET, HIDDEN, Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW = f"{BUCKET}/consumers/new"
HERE = {"Origin": "http://keywright.test", "Sec-Fetch-Site": "same-origin"}
TYPED = {"name": "typed-for-long", "description": "“Ada's” <server> & more", "metadata": '{"plan":\n "gold"}'}


async def send_after_the_end(visitor: Visitor, **headers: str) -> str:
    """The page that answers a form whose session has ended meanwhile."""
    fields = {**await visitor.hidden(NEW), **TYPED}
    await visitor.send("/admin/sign-out", BUCKET)
    return (await visitor.send_again(NEW, fields, 401, **headers)).text


async def test_what_was_typed_is_sent_again_after_signing_in(shared: Service) -> None:
    async with visiting(shared) as visitor:
        ended = await send_after_the_end(visitor, **HERE)
        assert "What you typed is kept on this page" in ended
        assert 'href="/admin/sign-in" target="_blank"' in ended
        kept = {name: html.unescape(value) for name, value in re.findall(HIDDEN, ended)}
        assert {name: kept[name] for name in TYPED} == TYPED
        assert not {"csrf", "form"} & kept.keys()
        # Too early: nothing is lost by it.
        again = (await visitor.send_again(NEW, kept, 401, **HERE)).text
        assert "typed-for-long" in again
        await visitor.sign_in()
        shown = (await visitor.send_again(NEW, kept, 403, **HERE)).text
        assert "You have signed in or out since this form was opened." in shown
        assert html.escape(TYPED["description"], quote=False) in html.unescape(shown).replace("&", "&amp;").replace(
            "<server>", "&lt;server&gt;"
        )
        fresh = {name: html.unescape(value) for name, value in re.findall(HIDDEN, shown)}
        await visitor.send_again(NEW, {**kept, "csrf": fresh["csrf"], "form": fresh["form"]}, 303, **HERE)
    made = await shared.call("GET", f"{shared.consumers_url}/typed-for-long")
    assert (made["description"], made["metadata"]) == (TYPED["description"], {"plan": "gold"})


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
    ids=["nobody says", "another site", "a neighbour"],
)
async def test_what_another_site_may_have_sent_is_not_kept(shared: Service, headers: dict[str, str]) -> None:
    async with visiting(shared) as visitor:
        ended = await send_after_the_end(visitor, **headers)
        assert "typed-for-long" not in ended
        await visitor.sign_in()
        answer = await visitor.client.post(NEW, data=TYPED, headers=headers)
        assert answer.status_code == 403
        assert "typed-for-long" not in answer.text
