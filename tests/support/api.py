"""A caller of a running service, for tests that speak to a real `keywright serve` from threads."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import Any, ClassVar

import httpx2

from support.process import ServeProcess

ROOT_KEY = "root-key-of-the-served-deployment"
BUCKET = "my-project-production"
ACCOUNT_URL = "/v1/accounts/my-account"
BUCKET_URL = f"{ACCOUNT_URL}/key-buckets/{BUCKET}"
CONSUMERS_URL = f"{BUCKET_URL}/consumers"
VARIABLES = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}

_numbers = itertools.count()


class Api(httpx2.Client):
    """Carries the root key. One for each thread; all of them are closed when the test has ended."""

    opened: ClassVar[list[Api]] = []

    def __init__(self, served: ServeProcess, key: str = ROOT_KEY) -> None:
        super().__init__(base_url=served.url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        self._port = served.port
        self.opened.append(self)

    def call(self, method: str, url: str, *, expect: int = 200, **options: Any) -> Any:
        response = self.request(method, url, **options)
        assert response.status_code == expect, f"{method} {url}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def new_consumer(self, **fields: Any) -> Any:
        return self.call("POST", CONSUMERS_URL, json={"name": f"consumer-{next(_numbers)}", **fields})

    def new_key(self, consumer: str, **fields: Any) -> Any:
        return self.call("POST", f"{CONSUMERS_URL}/{consumer}/keys", json=fields)

    def validate(self, key: str, bucket: str = BUCKET) -> Any:
        return self.call("POST", f"/v1/validate/{bucket}", json={"key": key})

    def verdict(self, key: str, bucket: str = BUCKET) -> str:
        return str(self.validate(key, bucket)["code"])

    def validate_anew(self, key: str) -> Any:
        """The answer on a connection of its own, so on whichever worker takes it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", f"/v1/validate/{BUCKET}", json.dumps({"key": key}), headers)
            response = connection.getresponse()
            assert response.status == 200
            return json.loads(response.read())
        finally:
            connection.close()
