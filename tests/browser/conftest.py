"""One browser and one filled deployment for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import identity
from support import portal as portals
from support.portal import Portal


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    data = tmp_path_factory.mktemp("portal") / "data"
    with identity.running() as provider, portals.served(data, provider.url) as process:
        yield Portal(process.wait_until_ready(60))


@pytest.fixture(scope="module")
def pages(portal: Portal) -> dict[str, str]:
    """The addresses of the admin portal's pages by name, with something on each of them."""
    return portals.fill(portal)
