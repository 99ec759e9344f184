"""One real origin for all tests of the policy that need one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.api import VARIABLES, Api
from support.process import ServeProcess

FOLLOW = {"account": "none", "buckets": {"*": "validate"}, "feed": True}


@dataclass
class Origin:
    """`token` may follow the feed; `api` carries the root key."""

    served: ServeProcess
    data_dir: Path
    api: Api
    token: str

    @property
    def url(self) -> str:
        return self.served.url

    @property
    def pepper_file(self) -> Path:
        return self.data_dir / "pepper.key"


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    data_dir = tmp_path_factory.mktemp("origin") / "data"
    with ServeProcess(data_dir, **VARIABLES).wait_until_ready(120) as served:
        api = Api(served)
        made = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})
        yield Origin(served, data_dir, api, made["key"])
        api.close()
