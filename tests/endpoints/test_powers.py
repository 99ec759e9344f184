"""Powers in any combination, set over the API and judged at each endpoint as a plain model of them says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import service as services
from support.service import Service

SCOPES = ["orders:read", "orders:write", "orders:*", "users:read", "*"]
NETWORKS = [["192.0.2.0/24"], ["192.0.2.7"], ["2001:db8::/32", "198.51.100.0/24"], ["0.0.0.0/0"]]
ADDRESSES = [None, "192.0.2.7", "192.0.2.8", "2001:db8::1", "::ffff:192.0.2.7", "203.0.113.9"]
STATUSES = {"VALID": 200, "DISABLED": 401, "EXPIRED": 401, "IP_NOT_ALLOWED": 403, "INSUFFICIENT_SCOPE": 403}
PAST = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

scopes = st.none() | st.lists(st.sampled_from(SCOPES), unique=True, max_size=3)
networks = st.none() | st.sampled_from(NETWORKS)
demands = st.tuples(st.lists(st.sampled_from(SCOPES[:4]), unique=True, max_size=2), st.sampled_from(ADDRESSES))


@dataclass(frozen=True)
class State:
    """What is said of a key and of its consumer."""

    defaults: list[str]
    consumer: dict[str, Any]
    key: dict[str, Any]
    is_expired: bool


states = st.builds(
    State,
    st.lists(st.sampled_from(SCOPES), unique=True, max_size=2),
    st.fixed_dictionaries({"enabled": st.sampled_from([True, True, False]), "scopes": scopes, "allowedIps": networks}),
    st.fixed_dictionaries({"enabled": st.sampled_from([True, True, False]), "scopes": scopes, "allowedIps": networks}),
    st.sampled_from([False, False, True]),
)


def covers(granted: list[str], scope: str) -> bool:
    return any(one in {"*", scope} or (one.endswith(":*") and scope.startswith(one[:-1])) for one in granted)


def model(state: State, demanded: list[str], address: str | None) -> str:
    """The verdict, said as the documentation says it."""
    if not (state.key["enabled"] and state.consumer["enabled"]):
        return "DISABLED"
    if state.is_expired:
        return "EXPIRED"
    for allowed in (state.key["allowedIps"], state.consumer["allowedIps"]):
        if allowed is not None:
            plain = None if address is None else ip_address(address.removeprefix("::ffff:"))
            if plain is None or not any(plain in ip_network(one) for one in allowed):
                return "IP_NOT_ALLOWED"
    above = state.defaults if state.consumer["scopes"] is None else state.consumer["scopes"]
    for scope in demanded:
        if not covers(above, scope) or (state.key["scopes"] is not None and not covers(state.key["scopes"], scope)):
            return "INSUFFICIENT_SCOPE"
    return "VALID"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data_dir: Path = tmp_path_factory.mktemp("powers") / "data"
    async with services.running(services.settings_for(data_dir)) as running:
        yield running


async def set_up(service: Service, state: State) -> str:
    """The secret of a key in this state, each step of which is a change of its own."""
    await service.call("PATCH", service.bucket_url, json={"defaultScopes": state.defaults})
    consumer = await service.new_consumer(scopes=["*"])
    url = f"{service.consumers_url}/{consumer['name']}"
    made = await service.new_key(consumer["name"], **state.key)
    if state.is_expired:
        await service.call("PATCH", f"{url}/keys/{made['id']}", json={"expiresOn": PAST})
    await service.call("PATCH", url, json=state.consumer)
    return str(made["key"])


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=states, asked=st.lists(demands, min_size=4, max_size=4))
async def test_every_endpoint_says_what_the_model_says(
    served: Service, state: State, asked: list[tuple[list[str], str | None]]
) -> None:
    secret = await set_up(served, state)
    for demanded, address in asked:
        question: dict[str, Any] = {"key": secret, "scopes": demanded}
        if address is not None:
            question["ip"] = address
        answer = await served.call("POST", f"/v2/validate/{served.bucket}", json=question)
        assert answer["code"] == model(state, demanded, address)

        # Where no header is believed, a gateway tells nobody's address.
        wanted = ";scope=" + ",".join(demanded) if demanded else ""
        url = f"/v1/forward-auth/{served.bucket}{wanted}"
        forwarded = await served.client.get(url, headers={"Authorization": f"Bearer {secret}"})
        assert forwarded.status_code == STATUSES[model(state, demanded, None)]
    assert await served.verdict(secret) == model(state, [], None)
