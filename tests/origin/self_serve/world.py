"""What tests of self-serve need: a service, its identity provider, and calls in the name of a user."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from support.identity import IdentityProvider
from support.service import Service

WEB_PAGE = "https://app.example.com"
_numbers = itertools.count()


def new_user(name: str) -> dict[str, Any]:
    """What a token says of somebody whom no other test knows."""
    number = next(_numbers)
    return {"sub": f"auth0|{name}-{number}", "email": f"{name}-{number}@example.com", "email_verified": True}


@dataclass
class World:
    service: Service
    provider: IdentityProvider
    ada: dict[str, Any] = field(default_factory=lambda: new_user("ada"))
    bob: dict[str, Any] = field(default_factory=lambda: new_user("bob"))

    @property
    def by_name(self) -> str:
        return f"/v1/self-serve/{self.service.bucket}/consumers"

    @property
    def by_id(self) -> str:
        return f"/v2/client/{self.service.bucket}/consumers"

    async def call(
        self, method: str, url: str, user: dict[str, Any] | None = None, /, *, token: str | None = None, **options: Any
    ) -> Any:
        """A request of a user; the parsed answer, or the text of one that is no JSON."""
        headers = options.pop("headers", {})
        key = token if token is not None else self.provider.token(user or self.ada)
        return await self.service.call(method, url, key=key, headers={"Origin": WEB_PAGE, **headers}, **options)

    async def allow(self, **settings: Any) -> None:
        await self.service.call("PATCH", self.service.bucket_url, json={"selfServe": settings})

    async def new_consumer(self, user: dict[str, Any] | None = None, **fields: Any) -> Any:
        """A consumer that the provider made, with one key, managed by this user."""
        user = user or self.ada
        manager = {"email": user["email"], "sub": user["sub"]}
        return await self.service.new_consumer(managers=[manager], apiKeys=[{"description": "first"}], **fields)

    async def audit(self, action: str) -> list[Any]:
        """Entries of this kind whose actor is Ada."""
        url = f"{self.service.account_url}/audit-logs"
        wanted = {"action": action, "actor": self.ada["sub"]}
        return list((await self.service.call("GET", url, params=wanted))["data"])
