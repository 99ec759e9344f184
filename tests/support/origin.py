"""A real origin that many tests share, with what an application beside it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@contextmanager
def running(data_dir: Path, *arguments: str) -> Iterator[Origin]:
    with ServeProcess(data_dir, *arguments, **VARIABLES).wait_until_ready(120) as served:
        api = Api(served)
        made = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})
        yield Origin(served, data_dir, api, made["key"])
        api.close()
