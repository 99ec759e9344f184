"""Ready-made front ends from the npm registry, bundled into a page each, and a served Keywright that they may call."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from origin.self_serve.world import new_user
from support import identity
from support.api import BUCKET, BUCKET_URL, VARIABLES, Api
from support.identity import IdentityProvider
from support.process import ServeProcess

HERE = Path(__file__).parent
PACKAGES = ("react-api-key-manager", "zudoku")
HTML = """<!doctype html><meta charset="utf-8"><title>front end</title><link rel="stylesheet" href="page.css">
<div id="root"></div><script type="module" src="page.js"></script>"""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundled page for each package, installed as its lock file says."""
    made = tmp_path_factory.mktemp("front-ends")
    installs = [_install(HERE / name) for name in PACKAGES]
    for name, install in zip(PACKAGES, installs, strict=True):
        said, _ = install.communicate(timeout=240)
        assert install.returncode == 0, said.decode()
        (made / name).mkdir()
        (made / name / "index.html").write_text(HTML)
        subprocess.run(
            [
                HERE / name / "node_modules/.bin/esbuild", HERE / name / "page.jsx", "--bundle", "--format=esm",
                "--jsx=automatic", '--define:process.env.NODE_ENV="production"', "--log-level=error",
                f"--outfile={made / name / 'page.js'}",
            ],
            check=True,
        )  # fmt: skip
        (made / name / "page.css").touch()
    return made


def _install(directory: Path) -> subprocess.Popen[bytes]:
    installed = directory / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (directory / "package-lock.json").stat().st_mtime:
        command = ["true"]
    else:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def web(pages: Path) -> Iterator[str]:
    """The origin of the pages: another one than Keywright's."""
    handler = functools.partial(_Quiet, directory=str(pages))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass
class FrontEnds:
    """A front end is opened by its name, for a user whom no other test knows."""

    served: ServeProcess
    provider: IdentityProvider
    api: Api
    web: str
    browser: Browser
    user: dict[str, Any] = field(default_factory=lambda: new_user("ada"))

    def open(self, name: str) -> Page:
        context = self.browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(60_000)
        state = {"api": self.served.url, "bucket": BUCKET, "token": self.provider.token(self.user)}
        page.goto(f"{self.web}/{name}/#{urlencode(state)}")
        return page

    def new_consumer(self, **fields: Any) -> Any:
        manager = {"email": self.user["email"], "sub": self.user["sub"]}
        return self.api.new_consumer(managers=[manager], apiKeys=[{}], **fields)


@pytest.fixture(scope="module")
def served_provider() -> Iterator[IdentityProvider]:
    with identity.running() as provider:
        yield provider


@pytest.fixture(scope="module")
def served(
    served_provider: IdentityProvider, web: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    variables = {
        **VARIABLES,
        "KEYWRIGHT_OIDC_ISSUER": served_provider.url,
        "KEYWRIGHT_OIDC_AUDIENCE": identity.AUDIENCE,
        "KEYWRIGHT_CORS_ORIGINS": f"https://app.example.com, {web}",
    }
    with ServeProcess(tmp_path_factory.mktemp("front-ends") / "data", **variables) as process:
        process.wait_until_ready(120)
        yield process


@pytest.fixture
def front_ends(
    served: ServeProcess, served_provider: IdentityProvider, web: str, browser: Browser
) -> Iterator[FrontEnds]:
    with Api(served) as api:
        api.call("PATCH", BUCKET_URL, json={"selfServe": {"createConsumers": True}})
        made = FrontEnds(served, served_provider, api, web, browser)
        yield made
        for context in browser.contexts:
            context.close()


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))
