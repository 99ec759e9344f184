"""`keywright scanner-rules`: of which prefixes there are rules, and whom they ask."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml

from cli.conftest import CommandLine, DeveloperApi
from keywright.cli.leaks.formats import Format

BUCKETS = "/v1/accounts/my-account/key-buckets"
ROWS: list[dict[str, Any]] = [
    {"id": "bckt_1", "name": "one", "keyPrefix": "acme_live", "formerKeyPrefixes": ["zpka", "kwak"]},
    {"id": "bckt_2", "name": "two", "keyPrefix": "kwak", "formerKeyPrefixes": []},
    {"id": "bckt_3", "name": "of-an-older-origin", "keyPrefix": "acme_test"},
]


@pytest.fixture
def api(developer_api: DeveloperApi) -> DeveloperApi:
    developer_api.answer("GET", BUCKETS, {"data": ROWS, "total": len(ROWS), "limit": 1000, "offset": 0})
    return developer_api


def test_there_is_a_rule_for_each_prefix_that_keys_may_have_and_for_management_keys(
    api: DeveloperApi, keywright: CommandLine
) -> None:
    told = keywright("scanner-rules", "--format", "gitleaks")
    assert told.exit_code == 0
    ids = [rule["id"] for rule in tomllib.loads(told.stdout)["rules"]]
    assert ids == [f"keywright-{one}" for one in ("kwmk", "acme-live", "acme-test", "kwak", "zpka")]
    assert {request.path for request in api.requests} == {"/v1/who-am-i", BUCKETS}


@pytest.mark.parametrize("format", list(Format))
def test_prefixes_that_are_named_are_asked_of_nobody(
    developer_api: DeveloperApi, keywright: CommandLine, format: Format
) -> None:
    told = keywright("scanner-rules", "--format", format, "--prefix", "acme_live", "--prefix", "kwmk")
    assert told.exit_code == 0
    assert told.stdout.count("acme_live_[0-9a-f]{32}") == told.stdout.count("kwmk_[0-9a-f]{32}") == 1
    assert developer_api.requests == []


def test_rules_ask_this_deployment_where_one_bucket_can_tell(api: DeveloperApi, keywright: CommandLine) -> None:
    told = keywright("scanner-rules", "--format", "kingfisher", "--verify", env={"KEYWRIGHT_URL": f"{api.url}/"})
    assert told.exit_code == 0
    asked = {
        rule["id"]: rule["validation"]["content"]["request"]["url"] if "validation" in rule else None
        for rule in yaml.safe_load(told.stdout)["rules"]
    }
    assert asked == {
        "keywright.kwmk": f"{api.url}/v1/who-am-i",
        "keywright.acme-live": f"{api.url}/v1/forward-auth/one",
        "keywright.acme-test": f"{api.url}/v1/forward-auth/of-an-older-origin",
        "keywright.kwak": None,
        "keywright.zpka": f"{api.url}/v1/forward-auth/one",
    }
    assert told.stderr == "Keys with kwak_ are of 2 buckets, so their rule finds them and asks nobody.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "kingfisher", "--verify", "--url", "http://keys.example.com"],
        ["--format", "kingfisher", "--verify", "--prefix", "kwak"],
        ["--format", "gitleaks", "--verify"],
        ["--format", "gitleaks", "--prefix", "A"],
        ["--format", "none"],
        [],
    ],
)
def test_what_would_send_keys_in_the_open_or_means_nothing_is_a_usage_error(
    developer_api: DeveloperApi, keywright: CommandLine, arguments: list[str]
) -> None:
    told = keywright("scanner-rules", *arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert developer_api.requests == []
