"""The walk of the README, to the letter: a first start, a consumer, a key, a validated request."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from support.process import ServeProcess


def shell(script: str, **variables: str) -> Any:
    done = subprocess.run(
        ["bash", "-ec", script], env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_stranger_walks_from_first_start_to_a_validated_request(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", from_nothing=True).wait_until_ready() as served:
        names = {"API_KEY": served.printed("API_KEY"), "BUCKET_NAME": served.printed("BUCKET_NAME"), "URL": served.url}

        consumer = shell(
            """curl -sS -H "Content-type: application/json" -H "Authorization: Bearer $API_KEY" \
              -d '{ "metadata": { "testId": "1234" }, "name": "my-consumer" }' \
              $URL/v1/accounts/my-account/key-buckets/$BUCKET_NAME/consumers""",
            **names,
        )
        published = ["id", "name", "createdOn", "updatedOn", "description", "tags", "metadata"]
        assert list(consumer) == [
            *published,
            "enabled",
            "scopes",
            "allowedIps",
            "plan",
            "rateLimits",
            "quotas",
            "lastUsedOn",
        ]
        assert re.fullmatch(r"csmr_[0-9A-Za-z]{24}", consumer["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", consumer["createdOn"])
        assert consumer["name"] == "my-consumer"
        assert (consumer["description"], consumer["tags"], consumer["metadata"]) == (None, {}, {"testId": "1234"})

        key = shell(
            """curl -sS -H "Content-type: application/json" -H "Authorization: Bearer $API_KEY" \
              -d '{ "description": "My first API Key" }' \
              $URL/v1/accounts/my-account/key-buckets/$BUCKET_NAME/consumers/my-consumer/keys""",
            **names,
        )
        published = ["id", "description", "createdOn", "updatedOn", "expiresOn", "key"]
        assert [name for name in key if name in published] == published
        assert re.fullmatch(r"key_[0-9A-Za-z]{24}", key["id"])
        assert re.fullmatch(r"kwak_[0-9a-f]{32}_[0-9a-f]{8}", key["key"])
        assert (key["description"], key["expiresOn"]) == ("My first API Key", None)

        verdict = shell(
            """curl -sS -d "{\\"key\\":\\"$KEY\\"}" \
              -H "Content-type: application/json" $URL/v1/validate/$BUCKET_NAME""",
            KEY=key["key"],
            **names,
        )
        assert verdict == {
            "valid": True,
            "code": "VALID",
            "user": {"sub": "my-consumer", "data": {"testId": "1234"}},
            "consumer": {"id": consumer["id"], "name": "my-consumer"},
            "key": {"id": key["id"], "expiresOn": None},
        }
