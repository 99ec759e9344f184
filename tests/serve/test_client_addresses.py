"""What serve does with the settings of its proxies beside the record: keys are judged by whom these ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx2

from support.api import VARIABLES, Api
from support.process import ServeProcess

if TYPE_CHECKING:
    from pathlib import Path

HOME, AWAY = "192.0.2.7", "198.51.100.9"
BUCKET = "/v1/accounts/my-account/key-buckets/my-project-production"


def test_a_key_is_good_from_its_addresses_as_the_gateway_tells_them(tmp_path: Path) -> None:
    assert "KEYWRIGHT_TRUSTED_PROXIES" not in os.environ
    proxies = {"KEYWRIGHT_TRUSTED_PROXIES": "127.0.0.1", "KEYWRIGHT_CLIENT_ADDRESS_HEADER": "X-Real-IP"}
    with ServeProcess(tmp_path / "data", **VARIABLES, **proxies).wait_until_ready(120) as served:
        api = Api(served)
        api.call("POST", f"{BUCKET}/consumers", json={"name": "acme"})
        made = api.call("POST", f"{BUCKET}/consumers/acme/keys", json={"allowedIps": ["192.0.2.0/24"]})
        url = f"{served.url}/v1/forward-auth/my-project-production"
        asked = {
            "told": {"X-Real-IP": HOME},
            "told another": {"X-Real-IP": AWAY},
            "told in another header": {"X-Forwarded-For": HOME},
            "told a list": {"X-Real-IP": f"{HOME}, {HOME}"},
            "told a port": {"X-Real-IP": f"{HOME}:80"},
            "not told": {},
        }
        bearer = {"Authorization": f"Bearer {made['key']}"}
        found = {name: httpx2.get(url, headers={**bearer, **more}).status_code for name, more in asked.items()}
        assert found == {name: 200 if name == "told" else 403 for name in asked}
        warnings = httpx2.get(f"{served.url}/readyz").json()["warnings"]
        assert any("a client's address is not known" in warning for warning in warnings)
        api.close()
