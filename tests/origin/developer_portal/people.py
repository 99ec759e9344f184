"""What tests of the developer portal need: people, each with a browser of their own, who sign in."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from support.identity import IdentityProvider
from support.mailbox import Mailbox
from support.process import NO_TLS
from support.service import Service
from support.visitor import Visitor, visiting

_numbers = itertools.count()


def new_address(name: str) -> str:
    return f"{name}-{next(_numbers)}@example.com"


@dataclass
class LinkPortal:
    service: Service
    mailbox: Mailbox

    @property
    def url(self) -> str:
        return f"/portal/{self.service.bucket}"

    async def new_consumer(self, *emails: str, **fields: Any) -> Any:
        return await self.service.new_consumer(managers=list(emails), apiKeys=[{"description": "first"}], **fields)

    async def ask_for_link(self, visitor: Visitor, email: str) -> str:
        """The path and query of the link that arrives."""
        count = len(self.mailbox.to(email)) + 1
        await visitor.send(f"{self.url}/sign-in", expect=200, email=email)
        parts = urlsplit(await self.mailbox.link_for(email, count))
        return f"{parts.path}?{parts.query}"

    async def sign_in(self, visitor: Visitor, email: str) -> None:
        link = await self.ask_for_link(visitor, email)
        fields = await visitor.hidden(link)
        await visitor.send_again(f"{self.url}/sign-in/link", fields)

    @asynccontextmanager
    async def person(self, email: str) -> AsyncIterator[Visitor]:
        """Somebody who is signed in."""
        async with visiting(self.service, None) as visitor:
            await self.sign_in(visitor, email)
            yield visitor


@dataclass
class ProviderPortal:
    service: Service
    provider: IdentityProvider

    @property
    def url(self) -> str:
        return f"/portal/{self.service.bucket}"

    async def go_there(self, visitor: Visitor, next: str = "") -> str:
        """The provider's address that the browser is sent to."""
        answer = await visitor.client.get(f"{self.url}/sign-in/oidc", params={"next": next})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def come_back(self, there: str) -> dict[str, str]:
        """What the provider sends the browser back with."""
        async with httpx2.AsyncClient(verify=NO_TLS) as browser:
            answer = await browser.get(there)
        assert answer.status_code == 302, answer.text
        parts = urlsplit(answer.headers["location"])
        assert parts.path == "/sign-in/callback"
        return dict(parse_qsl(parts.query))

    async def finish(self, visitor: Visitor, answer: dict[str, str], expect: int = 303) -> httpx2.Response:
        response = await visitor.client.get("/sign-in/callback", params=answer)
        assert response.status_code == expect, response.text
        return response

    async def sign_in(self, visitor: Visitor, next: str = "") -> httpx2.Response:
        return await self.finish(visitor, await self.come_back(await self.go_there(visitor, next)))
