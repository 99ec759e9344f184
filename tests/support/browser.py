"""A real browser (Debian's Chromium), and what it must never see on our pages: failing scripts, broken policies, other
hosts.

Playwright's synchronous interface keeps an event loop running in its thread: a browser lives as long as one module of
tests, in which no test is asynchronous.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SHIFTS = """() => new Promise((done) => {
  const shifts = [];
  const place = (box) => `${box.width} by ${box.height} at ${box.x}, ${box.y}`;
  const tell = ({ node, previousRect, currentRect }) =>
    `${(node?.outerHTML ?? node?.data ?? "?").slice(0, 80)}: ${place(previousRect)}, then ${place(currentRect)}`;
  const add = ({ value, sources }) => { if (value) shifts.push([`by ${value}`, ...sources.map(tell)].join("; ")); };
  new PerformanceObserver((list) => list.getEntries().forEach(add)).observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => done(shifts.join("\\n"))));
})"""
# Under load everything takes its time; what never comes, never comes.
TIMEOUT_MS = 60_000


@contextmanager
def running() -> Iterator[Browser]:
    path = os.environ.get("KEYWRIGHT_TEST_CHROMIUM") or shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium, or name it in KEYWRIGHT_TEST_CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a context's pages have done that they should not."""

    home: str
    complaints: list[str] = field(default_factory=list)

    def on_console(self, message: Any) -> None:
        # The browser writes a line for every answer of 400 and above, which a page that shows what went wrong is.
        is_refusal = message.text.startswith("Failed to load resource: the server responded with a status of 4")
        if message.type in {"error", "warning"} and not is_refusal:
            self.complaints.append(f"console: {message.text}")

    def on_request(self, request: Any) -> None:
        place = urlsplit(request.url)
        if place.scheme not in {"data", "blob"} and place.netloc != self.home:
            self.complaints.append(f"another host: {request.url}")

    def check(self) -> None:
        if self.complaints:
            raise AssertionError("\n".join(self.complaints))


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[tuple[BrowserContext, Page]]:
    """A new context with its first page; fails at its end if a page did what it should not."""
    watch = Watch(urlsplit(url).netloc)
    context = browser.new_context(base_url=url, **{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    context.set_default_timeout(TIMEOUT_MS)
    context.on("console", watch.on_console)
    context.on("weberror", lambda error: watch.complaints.append(f"script: {error.error}"))
    context.on("request", watch.on_request)
    context.on("dialog", lambda dialog: (watch.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        yield context, context.new_page()
        watch.check()
    finally:
        context.close()


def layout_shifts(page: Page) -> str:
    """What was shown and then moved since the page was opened, with where it was and is; empty if nothing did."""
    return str(page.evaluate(SHIFTS))


def find_barriers(page: Page, rule: str | None = None) -> str:
    """What stands in the way of people who see, hear or move differently, as axe finds it; empty if nothing.

    By one rule, or by all.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    options = {"resultTypes": ["violations"]} | ({} if rule is None else {"runOnly": [rule]})
    found = AxeResults(page.evaluate("options => axe.run(options)", options))
    return "" if found.violations_count == 0 else f"{page.url}\n{found.generate_report()}"
