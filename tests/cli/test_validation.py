"""`keywright validate` asks what an edge says of a key, takes nothing, and repeats no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import CommandLine

KEY = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
PATH = "/v2/validate/my-bucket"
VALID = {
    "valid": True,
    "code": "VALID",
    "user": {"sub": "acme", "data": {}},
    "consumer": {"id": "csmr_1", "name": "acme"},
    "key": {"id": "key_1", "expiresOn": None, "metadata": {}},
    "scopes": ["orders:*"],
    "limits": [
        {"name": "calls", "limit": 100, "windowSeconds": None, "remaining": 93, "resetSeconds": 60},
    ],
}


def test_a_good_key_is_told_with_what_is_left_and_nothing_is_taken(keywright: CommandLine) -> None:
    keywright.api.answer("POST", PATH, VALID)
    result = keywright(
        "validate", "--bucket", "my-bucket", "--scope", "orders:read", "--ip", "192.0.2.7", "--cost", "7",
        stdin=f"{KEY}\n",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for told in ("VALID", "acme", "key_1", "orders:*", "calls: 93 of 100 left"):
        assert told in result.stdout
    (asked,) = keywright.api.requests
    assert asked.body == {"key": KEY, "scopes": ["orders:read"], "ip": "192.0.2.7", "cost": 7, "peek": True}
    assert asked.headers["keywright-token"]
    assert KEY not in result.output


@pytest.mark.parametrize("code", ["UNKNOWN", "EXPIRED", "QUOTA_EXCEEDED"])
def test_a_refused_key_is_exit_code_1(keywright: CommandLine, code: str) -> None:
    keywright.api.answer("POST", PATH, {"valid": False, "code": code})
    result = keywright("validate", "--bucket", "my-bucket", "--json", stdin=KEY)
    assert (result.exit_code, json.loads(result.stdout)["code"]) == (1, code)


def test_an_edge_that_can_not_say_is_told_of(keywright: CommandLine) -> None:
    keywright.api.answer("POST", PATH, {"status": 503, "detail": "This replica has no snapshot."}, status=503)
    result = keywright("validate", "--bucket", "my-bucket", stdin=KEY)
    assert result.exit_code == 1
    assert "no snapshot" in result.output
