"""A served Keywright whose developer portal sends its sign-in links to the console, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from developer_portal import people
from developer_portal.people import BRAND, Portal
from support.api import BUCKET_URL, ROOT_KEY, VARIABLES, Api
from support.process import ServeProcess
from support.service import DEFAULT_SELF_SERVE


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with ServeProcess(tmp_path_factory.mktemp("portal") / "data", **VARIABLES) as process:
        process.wait_until_ready(120)
        with Api(process) as api:
            api.call("PATCH", f"{BUCKET_URL}/portal", json=BRAND)
        yield process


@pytest.fixture
def portal(served: ServeProcess, browser: Browser) -> Iterator[Portal]:
    with people.opened(served, ROOT_KEY, browser) as portal:
        yield portal
        portal.api.call("PATCH", BUCKET_URL, json={"selfServe": DEFAULT_SELF_SERVE})
