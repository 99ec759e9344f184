"""The developer portal as people use it: each signs in by the link that is printed for them, in their own browser."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Browser, Page

from keywright.domain.models import to_iso
from support import browser as browsers
from support.api import BUCKET, BUCKET_URL, Api
from support.process import ServeProcess, until

LOGO = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAYAAABzenr0AAAA4klEQVR42mNgGKrgRSSPAxA3QLHDQDgAZPF/KG4Yfg4AGqpALQcQMgubBgMg"
    "fg/E8yl1AMgMqFkGRPscqgFm+HxyEyHUcpg574kOCTSN//GFBM3MQDPgPDbXQ0PBAUconqfEA8iOABkkgGbpfjTf/YeKOSCpE4DqnU+13IAl"
    "WLHh+WSnfhLjlChHULPY/U8idqCmA/aT4YD95FYsGHmbDMvBmFjz0Us1lNKNzOBHiQZ85g8aBwxsFAx4Ihz02XBAC6IBLYoHtDIa0Op4QBsk"
    "g6VJNnCN0kHRLB/tGQ2Jzim1AADGrvjHysOwGwAAAABJRU5ErkJggg=="
)
"""A small sun."""
BRAND = {
    "name": "Weather API",
    "color": "#e8590c",
    "supportEmail": "help@weather.example.com",
    "apiUrl": "https://api.weather.example.com/v1/today",
    "links": [{"text": "Documentation", "url": "https://docs.weather.example.com"}],
    "logo": LOGO,
}
_numbers = itertools.count()

QUOTAS = [{"name": "monthly", "limit": 100_000, "period": "month", "timeZone": "Europe/Berlin"}]


@dataclass
class Portal:
    """People sign in by the link that is printed for them, each in a browser of their own."""

    served: ServeProcess
    api: Api
    browser: Browser
    open: ExitStack

    @property
    def url(self) -> str:
        return f"{self.served.url}/portal/{BUCKET}"

    def new_page(self, **options: Any) -> Page:
        permissions = ["clipboard-read", "clipboard-write"]
        _, page = self.open.enter_context(
            browsers.watched(self.browser, self.served.url, permissions=permissions, **options)
        )
        return page

    def new_address(self, name: str = "ada") -> str:
        return f"{name}-{next(_numbers)}@example.com"

    def ask_for_link(self, page: Page, email: str) -> None:
        page.goto(self.url)
        page.get_by_label("E-mail address").fill(email)
        page.get_by_role("button", name="Send link").click()
        page.get_by_role("heading", name="Check your email").wait_for()

    def link_for(self, email: str) -> str:
        pattern = re.compile(rf"Mail to {re.escape(email)}:.*?(http\S+/sign-in/link\?token=\S+)", re.DOTALL)
        until(lambda: pattern.search(self.served.output()), timeout=60)
        return pattern.findall(self.served.output())[-1]

    def sign_in(self, email: str, **options: Any) -> Page:
        page = self.new_page(**options)
        self.ask_for_link(page, email)
        page.goto(self.link_for(email))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Your API keys").wait_for()
        return page

    def new_consumer(self, *emails: str, **fields: Any) -> Any:
        return self.api.new_consumer(managers=list(emails), apiKeys=[{"description": "first"}], **fields)

    def allow(self, **settings: Any) -> None:
        self.api.call("PATCH", BUCKET_URL, json={"selfServe": settings})

    def guided_tour(self, viewport: Any) -> tuple[Page, dict[str, str]]:
        """A signed-in page, and the addresses of what there is to see, with something on each of them."""
        self.api.call("PATCH", f"{BUCKET_URL}/portal", json=BRAND)
        email = self.new_address()
        limits = [{"name": "per-minute", "limit": 6000, "windowSeconds": 60}]
        plan = {"name": f"gold-{email.partition('@')[0]}", "rateLimits": limits, "quotas": QUOTAS}
        self.api.call("POST", f"{BUCKET_URL}/plans", json=plan)
        made = self.new_consumer(
            email, description="Production, Frankfurt", plan=plan["name"], scopes=["orders:*", "invoices:read"]
        )
        self.api.new_key(
            made["name"], description="The nightly import", expiresOn=to_iso(datetime.now(UTC) + timedelta(days=12))
        )
        narrow = {"scopes": ["orders:read"], "allowedIps": ["192.0.2.0/24"], "enabled": False}
        key = self.api.new_key(made["name"], description="The dashboard", **narrow)
        self.new_consumer(email, "bob@example.com", description="Test server")
        page = self.sign_in(email, viewport=viewport)
        base, place = f"/portal/{BUCKET}", f"/portal/{BUCKET}/consumers/{made['name']}"
        return page, {
            "keys": base,
            "consumer": place,
            "usage": f"{place}/usage",
            "new-key": f"{place}/keys/new",
            "restrict": f"{place}/keys/{key['id']}/restrict",
            "roll": f"{place}/roll",
            "people": f"{place}/managers",
            "delete": f"{place}/delete",
        }


@contextmanager
def opened(served: ServeProcess, key: str, browser: Browser) -> Iterator[Portal]:
    """The portal of a service whose root key is this one."""
    with Api(served, key) as api, ExitStack() as open:
        yield Portal(served, api, browser, open)
