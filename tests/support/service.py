"""A whole service in this process: both planes on a real database and a real replica, spoken to as HTTP."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from keywright.domain.keyformat import Digester, Secret
from keywright.origin.db.transaction import Database
from keywright.origin.pipeline.services import Services
from keywright.origin.pipeline.unit_of_work import Dependencies, Limits
from keywright.runtime.settings import EndUserSettings, OriginSettings
from keywright.serve import first_start
from keywright.serve.worker import ServeWorker
from support.identity import AUDIENCE, CLIENT_ID, CLIENT_SECRET, IdentityProvider

ROOT_KEY = "root-key-of-the-tested-deployment"
DEFAULT_SELF_SERVE = {
    "enabled": True, "createConsumers": False, "deleteConsumers": True, "createKeys": True,
    "maxConsumers": 10, "maxKeys": 20,
}  # fmt: skip
"""`selfServe` of a new bucket."""


def settings_for(data_dir: Path, database_url: str | None = None, **changes: Any) -> OriginSettings:
    """Settings with a known root key and no rate limit, whatever the variables of this machine say."""
    settings = OriginSettings.load(data_dir=data_dir, database_url=database_url or f"sqlite:///{data_dir}/keywright.db")
    defaults = {"bootstrap_key": Secret(ROOT_KEY), "management_rate_limit": 0}
    return replace(settings, **{**defaults, **changes})


@dataclass
class Service:
    """A running service; `client` carries the root key."""

    app: ServeWorker
    client: httpx2.AsyncClient
    settings: OriginSettings
    account: str = "my-account"
    bucket: str = "my-project-production"
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def account_url(self) -> str:
        return f"/v1/accounts/{self.account}"

    @property
    def bucket_url(self) -> str:
        return f"{self.account_url}/key-buckets/{self.bucket}"

    @property
    def consumers_url(self) -> str:
        return f"{self.bucket_url}/consumers"

    async def call(self, method: str, url: str, *, expect: int = 200, key: str | None = None, **options: Any) -> Any:
        """One request; the parsed answer. Fails unless it has the expected status. `key`: another management key."""
        headers = {**options.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        response = await self.client.request(method, url, headers=headers, **options)
        assert response.status_code == expect, f"{method} {url}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def new_consumer(self, **fields: Any) -> dict[str, Any]:
        body = {"name": f"consumer-{next(self._numbers)}", **fields}
        made: dict[str, Any] = await self.call("POST", self.consumers_url, json=body)
        return made

    async def new_key(self, consumer: str, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.call("POST", f"{self.consumers_url}/{consumer}/keys", json=fields)
        return made

    async def new_management_key(self, account: str | None = None, /, **permissions: Any) -> str:
        """The secret of a new management key with these permissions."""
        url = f"/v1/accounts/{account or self.account}/management-keys"
        made = await self.call("POST", url, json={"permissions": permissions})
        return str(made["key"])

    async def verdict(self, key: str, bucket: str | None = None) -> str:
        answer = await self.call("POST", f"/v1/validate/{bucket or self.bucket}", json={"key": key})
        return str(answer["code"])


def end_users_of(provider: IdentityProvider, **changes: Any) -> EndUserSettings:
    """Settings for end users who come from this identity provider."""
    settings = EndUserSettings(
        oidc_issuer=provider.url,
        oidc_audiences=(AUDIENCE,),
        oidc_authorized_parties=(),
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=Secret(CLIENT_SECRET),
        admin_roles={},
        cors_origins=("https://app.example.com",),
        rate_limit=0,
        public_url="http://keywright.test",
        smtp_url=None,
        mail_from="keys@keywright.test",
    )
    return replace(settings, **changes)


def bare_services() -> Services:
    """What an origin is built from, with nothing behind it: for its document and its pages, which ask for nothing."""
    nothing: Any = None
    dependencies = Dependencies(nothing, Digester(bytes(32)), nothing, nothing, Limits())
    # Opened by its first query, which nobody asks.
    return Services(Database("sqlite+aiosqlite:////nowhere"), dependencies, (), nothing, nothing, nothing, nothing)


@asynccontextmanager
async def running(settings: OriginSettings, *, headers: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
    """Prepares and starts a service, as `keywright serve` does it in a worker."""
    await first_start.prepare(settings)
    app = ServeWorker(settings)
    await app.start()
    authorization = {"Authorization": f"Bearer {ROOT_KEY}", **(headers or {})}
    transport = httpx2.ASGITransport(app=app)
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://keywright.test", headers=authorization
        ) as client:
            yield Service(app, client, settings)
    finally:
        await app.stop()
