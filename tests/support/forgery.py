"""Somebody who sends the forms of the admin portal that they were never shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.routing import Route

from keywright.origin import admin_portal as admin
from support.reports import report_of, tell
from support.service import Service
from support.visitor import ACCOUNT, BUCKET, Visitor

OFFERS = re.compile(r'href="[^"]*/(new|edit|delete|revoke|roll|remove|end|top-up)"')


def post_routes() -> list[str]:
    """Every address below an account that a form is sent to, but for the search, which changes nothing."""
    routes = [route for route in admin.new_router().routes if isinstance(route, Route) and route.methods == {"POST"}]
    found = sorted(one.path for one in routes if one.path.startswith("/admin/accounts"))
    assert len(found) >= 20
    return [path for path in found if not path.endswith("/search")]


async def forge(service: Service, visitor: Visitor, routes: Sequence[str]) -> None:
    """Sends a form to each of these addresses. Fails if one is taken, offered on a page, or changes anything."""
    quota = {"name": "calls", "limit": 5, "period": "none"}
    consumer = await service.new_consumer(managers=[{"email": "ada@example.com"}], quotas=[quota])
    made = await service.new_key(consumer["name"])
    managers = await service.call("GET", f"{service.consumers_url}/{consumer['name']}/managers?include-invites=true")
    owner = (await service.call("GET", f"{service.bucket_url}/owner-keys"))["data"][0]
    plan = f"of-{consumer['name']}"
    await service.call("POST", f"{service.bucket_url}/plans", json={"name": plan})
    management = (await service.call("GET", f"{service.account_url}/management-keys"))["data"][0]
    edge = report_of(service, "forged")
    await tell(service, edge)
    quotas = f"{service.consumers_url}/{consumer['name']}/quotas"
    before = await _state(service, quotas)
    names = {
        "accountName": service.account, "bucketName": service.bucket, "consumerName": consumer["name"],
        "projectName": "my-project", "managerId": (managers["data"] or [{"id": "eusr_x"}])[0]["id"],
        "otherAccount": "partner", "edgeId": edge.instance, "planName": plan,
        "quotaName": quota["name"],
    }  # fmt: skip
    # Pages with a form of their own say by their names which forms must not be on them.
    pages = [f"{BUCKET}/settings", f"{BUCKET}/self-serve", f"{BUCKET}/portal", f"{ACCOUNT}/buckets"]
    if any("/consumers" in path for path in routes):
        pages += [BUCKET, f"{BUCKET}/plans", f"{BUCKET}/consumers/{consumer['name']}"]
    for page in pages:
        text = await visitor.open(page)
        forms = set(re.findall(r'<form[^>]*action="([^"]*)"', text))
        assert forms <= {"/admin/theme", "/admin/sign-out", f"{BUCKET}/search", f"{ACCOUNT}/buckets"}, page
        assert not OFFERS.search(text), page
    fields = {
        **await visitor.hidden(BUCKET), "name": "forged-name", "account": "read", "access": "write", "expires": "now",
        "email": "eve@example.com", "key_prefix": "eve", "whenStale": "serve", "maxConsumers": "1", "maxKeys": "1",
        "units": "5", "idempotency_key": "forged",
    }  # fmt: skip
    for number, path in enumerate(routes):
        key_id = owner["id"] if "owner" in path else management["id"] if "management" in path else made["id"]
        address = path.format(**names, keyId=key_id)
        typed = consumer["name"] if "consumers" in path else "my-project" if "projects" in path else service.bucket
        sent = {**fields, "form": f"forged-{consumer['name']}-{number}", "typed": typed}
        assert (await visitor.client.post(address, data=sent)).status_code in {403, 404}, path
        # The page that it would be sent from is refused, too, where there is one of its own.
        assert (await visitor.client.get(address)).status_code in {200, 303, 403, 404}
    assert await _state(service, quotas) == before


async def _state(service: Service, quotas: str) -> Any:
    """What a forged form could have changed."""
    found = []
    for path in (
        service.consumers_url + "?include-api-keys=true&include-managers=true",
        f"{service.account_url}/key-buckets", f"{service.account_url}/projects", f"{service.bucket_url}/portal",
        f"{service.account_url}/management-keys", f"{service.bucket_url}/owner-keys", f"{service.bucket_url}/grants",
        f"{service.bucket_url}/plans", quotas,
    ):  # fmt: skip
        found.append(await service.call("GET", path))
    return found
