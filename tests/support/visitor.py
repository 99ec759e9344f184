"""Somebody without a browser: pages of the admin portal over HTTP, cookies kept, forms sent as they are shown."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from support.service import ROOT_KEY, Service

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
NUMBERS = itertools.count()
ACCOUNT = "/admin/accounts/my-account"
BUCKET = ACCOUNT + "/buckets/my-project-production"


class Visitor:
    """What a person sees and sends."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def open(self, path: str, expect: int = 200, **options: Any) -> str:
        answer = await self.client.get(path, **options)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text[:2000]}"
        return answer.text

    async def hidden(self, path: str) -> dict[str, str]:
        """The hidden fields of the forms on a page; of several with one name, the first."""
        found = reversed(HIDDEN.findall(await self.open(path)))
        return {name: html.unescape(value) for name, value in found}

    async def send(self, path: str, page: str | None = None, expect: int = 303, **fields: Any) -> httpx2.Response:
        """Opens the page that a form is on (its own address, if none is named) and sends the form."""
        return await self.send_again(path, {**await self.hidden(page or path), **fields}, expect)

    async def send_again(self, path: str, fields: dict[str, Any], expect: int = 303, **headers: str) -> httpx2.Response:
        answer = await self.client.post(path, data=fields, headers=headers)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    async def sign_in(self, key: str = ROOT_KEY) -> None:
        await self.send("/admin/sign-in", key=key)


@asynccontextmanager
async def visiting(service: Service, key: str | None = ROOT_KEY, **headers: str) -> AsyncIterator[Visitor]:
    """A visitor with a browser of their own, signed in unless `key` is None."""
    # An address of their own: sign-ins are counted by it.
    transport = httpx2.ASGITransport(app=service.app, client=(f"visitor-{next(NUMBERS)}", 1))
    url = "https://keywright.test" if headers.get("X-Forwarded-Proto") == "https" else "http://keywright.test"
    async with httpx2.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
        visitor = Visitor(client)
        if key is not None:
            await visitor.sign_in(key)
        yield visitor
