"""What the tests of these endpoints ask, and where."""

from __future__ import annotations

import json

from endpoints.table import BUCKET, VALID

PATH = f"/v1/validate/{BUCKET}"
AUTH = f"/v1/forward-auth/{BUCKET}"
ASK = json.dumps({"key": VALID}).encode()
BEARER = [(b"authorization", b"Bearer " + VALID.encode())]
