"""What the sections about edges ask of origins and edges: changes, verdicts, and where a replica is."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from typing import Any

from processes import ServerProcess
from record import ACCOUNT, BUCKET, Record

CONSUMERS = f"/v1/accounts/{ACCOUNT}/key-buckets/{BUCKET}/consumers"
DEADLINE_SECONDS = 300.0


class Client:
    """One connection, kept alive."""

    def __init__(self, server: ServerProcess, made: Record) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        self._headers = {"Authorization": f"Bearer {made.root_key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The value of the answer. Raises RuntimeError for any but a success."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        response = self._connection.getresponse()
        data = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:200]!r}")
        return json.loads(data) if data else None

    def new_consumer(self, name: str) -> str:
        """The address of its keys."""
        self.call("POST", CONSUMERS, {"name": name})
        return f"{CONSUMERS}/{name}/keys"

    def is_valid(self, secret: str) -> bool:
        return bool(self.call("POST", f"/v1/validate/{BUCKET}", {"key": secret})["valid"])

    def revision(self) -> int:
        return int(self.call("GET", "/readyz")["revision"])

    def wait_for(self, revision: int) -> None:
        """Return when the replica is there."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.revision() < revision:
            if time.monotonic() > deadline:
                raise RuntimeError(f"revision {revision} was not reached")
            time.sleep(0.002)

    def close(self) -> None:
        self._connection.close()
