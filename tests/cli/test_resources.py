"""Each command makes the one request that it stands for, and prints what came back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import CommandLine

BUCKETS = "/v1/accounts/my-account/key-buckets"
CONSUMERS = f"{BUCKETS}/my-bucket/consumers"
ACME = f"{CONSUMERS}/acme"
PLANS = f"{BUCKETS}/my-bucket/plans"
TIMES = {"createdOn": "2026-11-23T10:26:05.123Z", "updatedOn": "2026-11-23T10:26:05.123Z"}
SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
KEY = {"id": "key_0HfT6wtn1uyYNkLjbVNQEVzK", "description": None, "expiresOn": None, "key": "****2efb7009", **TIMES}
MANAGER = {"id": "eusr_1", "email": "jo@example.com", "sub": "oidc|1", **TIMES}
CONSUMER = {
    "id": "csmr_1",
    "name": "acme",
    "description": "Acme, Inc.",
    "tags": {"plan": "gold"},
    "metadata": {"n": 1},
    **TIMES,
}
BUCKET = {"id": "bckt_1", "name": "my-bucket", "description": None, "tags": {}, "isRetrievable": True, **TIMES}


def page_of(*rows: dict[str, Any], total: int | None = None, offset: int = 0) -> dict[str, Any]:
    return {"data": list(rows), "limit": 1000, "offset": offset, "total": len(rows) if total is None else total}


USAGE = {
    **page_of({"id": "VALID", "name": None, "total": 7, "verdicts": {"VALID": 7}}),
    "from": "2026-11-01T00:00:00.000Z",
    "to": "2026-11-29T10:00:00.000Z",
    "knownUntil": None,
    "losses": [{"edge": "edge-1"}],
}
# What is typed -> method, path, query, body.
REQUESTS: dict[str, tuple[str, str, dict[str, str], Any]] = {
    "buckets list": ("GET", BUCKETS, {"limit": "1000", "offset": "0"}, None),
    "buckets create b-new": ("POST", BUCKETS, {}, {"name": "b-new"}),
    "buckets create b-new --description D --tag a=b --key-prefix acme --not-retrievable": (
        "POST", BUCKETS, {},
        {"name": "b-new", "description": "D", "tags": {"a": "b"}, "keyPrefix": "acme", "isRetrievable": False},
    ),
    "buckets update my-bucket --key-prefix acme_live": (
        "PATCH", f"{BUCKETS}/my-bucket", {}, {"keyPrefix": "acme_live"},
    ),
    "buckets get my-bucket": ("GET", f"{BUCKETS}/my-bucket", {}, None),
    "buckets update my-bucket --tag a=b --tag c=d": (
        "PATCH", f"{BUCKETS}/my-bucket", {}, {"tags": {"a": "b", "c": "d"}},
    ),
    "buckets create b-new --max-staleness 300 --when-stale refuse": (
        "POST", BUCKETS, {}, {"name": "b-new", "maxStalenessSeconds": 300, "whenStale": "refuse"},
    ),
    "buckets update my-bucket --max-staleness 0 --when-stale serve": (
        "PATCH", f"{BUCKETS}/my-bucket", {}, {"maxStalenessSeconds": None, "whenStale": "serve"},
    ),
    "edges list": ("GET", "/v1/accounts/my-account/edges", {"limit": "1000", "offset": "0"}, None),
    "buckets update my-bucket --no-tags": ("PATCH", f"{BUCKETS}/my-bucket", {}, {"tags": {}}),
    "buckets update my-bucket --self-serve createConsumers=true --self-serve maxKeys=5": (
        "PATCH", f"{BUCKETS}/my-bucket", {}, {"selfServe": {"createConsumers": True, "maxKeys": 5}},
    ),
    "portal get my-bucket": ("GET", f"{BUCKETS}/my-bucket/portal", {}, None),
    "portal update my-bucket --name Example --color #0f5c6e --support-email  --link Docs=https://a.bc --no-logo": (
        "PATCH", f"{BUCKETS}/my-bucket/portal", {},
        {
            "name": "Example", "color": "#0f5c6e", "supportEmail": None, "logo": None,
            "links": [{"text": "Docs", "url": "https://a.bc"}],
        },
    ),
    "portal update my-bucket --no-links": ("PATCH", f"{BUCKETS}/my-bucket/portal", {}, {"links": []}),
    "buckets delete my-bucket --yes": ("DELETE", f"{BUCKETS}/my-bucket", {}, None),
    "consumers list --limit 10 --offset 20": ("GET", CONSUMERS, {"limit": "10", "offset": "20"}, None),
    "consumers list --tag a=b --tag c=d --manager-email jo@example.com": (
        "GET", CONSUMERS,
        {"limit": "1000", "offset": "0", "tag.a": "b", "tag.c": "d", "manager-email": "jo@example.com"}, None,
    ),
    "consumers list --bucket other": ("GET", f"{BUCKETS}/other/consumers", {"limit": "1000", "offset": "0"}, None),
    "consumers create acme": ("POST", CONSUMERS, {}, {"name": "acme"}),
    "consumers create acme --with-key --description D --metadata {} --tag a=b --manager jo@a.bc --manager al@a.bc": (
        "POST", CONSUMERS, {"with-api-key": "true"},
        {"name": "acme", "description": "D", "metadata": {}, "tags": {"a": "b"}, "managers": ["jo@a.bc", "al@a.bc"]},
    ),
    "consumers get acme": (
        "GET", ACME,
        {
            "include-api-keys": "true", "include-managers": "true", "include-manager-invites": "true",
            "key-format": "masked",
        },
        None,
    ),
    "consumers update acme --description=": ("PATCH", ACME, {}, {"description": None}),
    'consumers update acme --metadata {"a":[1]}': ("PATCH", ACME, {}, {"metadata": {"a": [1]}}),
    "consumers delete acme -y": ("DELETE", ACME, {}, None),
    "consumers roll acme": ("POST", f"{ACME}/roll-key", {}, {}),
    "consumers roll acme --expires-on 2027-01-31": (
        "POST", f"{ACME}/roll-key", {}, {"expiresOn": "2027-01-31T00:00:00.000Z"},
    ),
    "keys roll acme": ("POST", f"{ACME}/roll-key", {}, {}),
    "keys list acme": ("GET", f"{ACME}/keys", {"limit": "1000", "offset": "0", "key-format": "masked"}, None),
    "keys list acme --unused-since 2026-08-31": (
        "GET", f"{ACME}/keys",
        {"limit": "1000", "offset": "0", "key-format": "masked", "unused-since": "2026-08-31T00:00:00.000Z"}, None,
    ),
    "keys list --unused-since 2026-08-31": (
        "GET", f"{BUCKETS}/my-bucket/keys",
        {"limit": "1000", "offset": "0", "unused-since": "2026-08-31T00:00:00.000Z"}, None,
    ),
    "usage": ("GET", f"{BUCKETS}/my-bucket/usage", {"by": "verdict"}, None),
    "usage acme key_1 --by edge --from 2026-11-01 --to 2026-11-02T10:00Z --limit 5": (
        "GET", f"{ACME}/keys/key_1/usage",
        {
            "by": "edge", "from": "2026-11-01T00:00:00.000Z", "to": "2026-11-02T10:00:00.000Z", "limit": "5",
        }, None,
    ),
    "keys list acme --show": ("GET", f"{ACME}/keys", {"limit": "1000", "offset": "0", "key-format": "visible"}, None),
    "keys list acme --key-format none": (
        "GET", f"{ACME}/keys", {"limit": "1000", "offset": "0", "key-format": "none"}, None,
    ),
    "keys create acme": ("POST", f"{ACME}/keys", {}, {}),
    "keys create acme --description D --expires-on 2027-01-31T12:00Z": (
        "POST", f"{ACME}/keys", {}, {"description": "D", "expiresOn": "2027-01-31T12:00:00.000Z"},
    ),
    "keys create acme --key -": ("POST", f"{ACME}/keys", {}, {"key": "my-own-secret-0001"}),
    "keys get acme key_1 --show": ("GET", f"{ACME}/keys/key_1", {"key-format": "visible"}, None),
    "keys update acme key_1 --description D": ("PATCH", f"{ACME}/keys/key_1", {}, {"description": "D"}),
    "keys update acme key_1 --expires-on never": ("PATCH", f"{ACME}/keys/key_1", {}, {"expiresOn": None}),
    "keys list acme --tag a=b": (
        "GET", f"{ACME}/keys", {"limit": "1000", "offset": "0", "key-format": "masked", "key-tag.a": "b"}, None,
    ),
    "keys create acme --disable --scope a:b --scope c --allowed-ip 192.0.2.1 --metadata {} --tag a=b": (
        "POST", f"{ACME}/keys", {},
        {"enabled": False, "scopes": ["a:b", "c"], "allowedIps": ["192.0.2.1"], "metadata": {}, "tags": {"a": "b"}},
    ),
    "keys update acme key_1 --disable": ("PATCH", f"{ACME}/keys/key_1", {}, {"enabled": False}),
    "keys update acme key_1 --enable --no-scopes --any-ip --no-tags": (
        "PATCH", f"{ACME}/keys/key_1", {}, {"enabled": True, "scopes": [], "allowedIps": None, "tags": {}},
    ),
    "keys update acme key_1 --inherit-scopes": ("PATCH", f"{ACME}/keys/key_1", {}, {"scopes": None}),
    'keys update acme key_1 --metadata {"a":1} --expires-on never': (
        "PATCH", f"{ACME}/keys/key_1", {}, {"metadata": {"a": 1}, "expiresOn": None},
    ),
    "consumers create acme --disable --no-scopes --allowed-ip 192.0.2.0/24": (
        "POST", CONSUMERS, {}, {"name": "acme", "enabled": False, "scopes": [], "allowedIps": ["192.0.2.0/24"]},
    ),
    "consumers update acme --disable --scope a --any-ip": (
        "PATCH", ACME, {}, {"enabled": False, "scopes": ["a"], "allowedIps": None},
    ),
    "consumers update acme --enable --description D": ("PATCH", ACME, {}, {"enabled": True, "description": "D"}),
    "buckets create b-new --default-scope *": ("POST", BUCKETS, {}, {"name": "b-new", "defaultScopes": ["*"]}),
    "buckets update my-bucket --default-scope a --default-scope b": (
        "PATCH", f"{BUCKETS}/my-bucket", {}, {"defaultScopes": ["a", "b"]},
    ),
    "buckets update my-bucket --no-default-scopes": ("PATCH", f"{BUCKETS}/my-bucket", {}, {"defaultScopes": []}),
    "keys delete acme key_1 --yes": ("DELETE", f"{ACME}/keys/key_1", {}, None),
    "managers list acme": (
        "GET", f"{ACME}/managers", {"limit": "1000", "offset": "0", "include-manager-invites": "true"}, None,
    ),
    "plans list": ("GET", PLANS, {"limit": "1000", "offset": "0"}, None),
    "plans get gold": ("GET", f"{PLANS}/gold", {}, None),
    "plans create gold --description D --scope a:* --rate-limit m=600/60 --rate-limit s=5/1/edge": (
        "POST", PLANS, {},
        {"name": "gold", "description": "D", "scopes": ["a:*"], "rateLimits": [
            {"name": "m", "limit": 600, "windowSeconds": 60},
            {"name": "s", "limit": 5, "windowSeconds": 1, "scope": "edge"},
        ]},
    ),
    "plans create bare --no-scopes": ("POST", PLANS, {}, {"name": "bare", "scopes": []}),
    "plans update gold --inherit-scopes --no-rate-limits": (
        "PATCH", f"{PLANS}/gold", {}, {"scopes": None, "rateLimits": []},
    ),
    "plans update gold --description ": ("PATCH", f"{PLANS}/gold", {}, {"description": None}),
    "plans delete gold --yes": ("DELETE", f"{PLANS}/gold", {}, None),
    "consumers create acme --plan gold --rate-limit m=1/10": (
        "POST", CONSUMERS, {},
        {"name": "acme", "plan": "gold", "rateLimits": [{"name": "m", "limit": 1, "windowSeconds": 10}]},
    ),
    "consumers update acme --plan silver": ("PATCH", ACME, {}, {"plan": "silver"}),
    "consumers update acme --no-plan --no-rate-limits": ("PATCH", ACME, {}, {"plan": None, "rateLimits": []}),
    "consumers create acme --quota calls=100000/month@15/Europe/Oslo": (
        "POST", f"{CONSUMERS}", {},
        {"name": "acme", "quotas": [
            {"name": "calls", "limit": 100_000, "period": "month", "anchor": 15, "timeZone": "Europe/Oslo"},
        ]},
    ),
    "consumers update acme --no-quotas": ("PATCH", ACME, {}, {"quotas": []}),
    "consumers update acme --inherit-quotas --rate-limit m=1/10": (
        "PATCH", ACME, {}, {"rateLimits": [{"name": "m", "limit": 1, "windowSeconds": 10}], "quotas": None},
    ),
    "plans create gold --quota calls=5/day --quota all=9/none": (
        "POST", PLANS, {},
        {"name": "gold", "quotas": [
            {"name": "calls", "limit": 5, "period": "day"}, {"name": "all", "limit": 9, "period": "none"},
        ]},
    ),
    "plans update gold --no-quotas": ("PATCH", f"{PLANS}/gold", {}, {"quotas": []}),
    "quotas list acme": ("GET", f"{ACME}/quotas", {}, None),
    "quotas top-up acme calls 5000": ("POST", f"{ACME}/quotas/calls/top-ups", {}, {"units": 5000}),
    "consumers update acme --inherit-rate-limits": ("PATCH", ACME, {}, {"rateLimits": None}),
    "keys create acme --rate-limit m=1/10/edge": (
        "POST", f"{ACME}/keys", {},
        {"rateLimits": [{"name": "m", "limit": 1, "windowSeconds": 10, "scope": "edge"}]},
    ),
    "keys update acme key_1 --no-rate-limits": ("PATCH", f"{ACME}/keys/key_1", {}, {"rateLimits": []}),
    "managers add acme jo@example.com": ("POST", f"{ACME}/managers", {}, {"email": "jo@example.com"}),
    "managers create acme jo@example.com --sub s": (
        "POST", f"{ACME}/managers", {}, {"email": "jo@example.com", "sub": "s"},
    ),
    "managers delete acme eusr_1 --yes": ("DELETE", f"{ACME}/managers/eusr_1", {}, None),
}  # fmt: skip
PORTAL = {"name": "Example", "color": None, "supportEmail": None, "apiUrl": None, "links": [], "logoUrl": None}
EDGE = {
    "name": "edge-1", "region": None, "version": "0.1.0", "state": "live", "revision": 7, "lagSeconds": 0.1,
    "clockOffsetSeconds": -2400.0,
    "since": "2026-11-23T10:26:05.123Z", "seenOn": "2026-11-23T10:26:05.123Z",
}  # fmt: skip
PLAN = {
    "id": "plan_1", "name": "gold", "description": None, "scopes": ["orders:*"], "consumers": 12, **TIMES,
    "rateLimits": [
        {"name": "per-minute", "limit": 600, "windowSeconds": 60, "scope": "global"},
        {"name": "burst", "limit": 5, "windowSeconds": 1, "scope": "edge"},
    ],
}  # fmt: skip
QUOTA = {
    "name": "calls", "limit": 100, "period": "month", "remaining": 40, "spent": 50, "lent": 10, "unaccounted": 0,
    "added": 0, "overspent": 0, "endsOn": None,
}  # fmt: skip
THINGS = {
    "portal": PORTAL, "plans": PLAN, "buckets": BUCKET,
    "consumers": CONSUMER, "keys": KEY, "managers": MANAGER, "edges": EDGE, "quotas": QUOTA,
}  # fmt: skip


def answer_of(command: str, method: str) -> tuple[int, Any]:
    noun, verb = [*command.split(), ""][:2]
    if noun == "usage":
        return 200, USAGE
    if method == "DELETE":
        return 204, None
    thing = KEY if verb == "roll" else THINGS[noun]
    if command.startswith("buckets create"):
        thing = {**thing, "ownerKey": {**KEY, "key": SECRET}}
    return 200, page_of(thing) if verb == "list" else thing


@pytest.mark.parametrize("command", REQUESTS)
def test_a_command_is_one_request(keywright: CommandLine, command: str) -> None:
    method, path, query, body = REQUESTS[command]
    status, value = answer_of(command, method)
    keywright.api.answer(method, path, value, status=status)

    result = keywright(*command.split(" "), stdin="my-own-secret-0001\n")

    assert result.exit_code == 0, result.output
    assert result.stdout
    asked = keywright.api.last
    assert (asked.method, asked.path, asked.query, asked.body) == (method, path, query, body)


def test_a_logo_is_read_from_its_file(keywright: CommandLine, tmp_path: Path) -> None:
    picture = tmp_path / "logo.png"
    picture.write_bytes(b"picture")
    keywright.api.answer("PATCH", f"{BUCKETS}/my-bucket/portal", PORTAL)

    assert keywright("portal", "update", "my-bucket", "--logo", str(picture)).exit_code == 0
    assert keywright.api.last.body == {"logo": "data:image/png;base64,cGljdHVyZQ=="}

    missing = keywright("portal", "update", "my-bucket", "--logo", str(tmp_path / "none.png"))
    assert missing.exit_code == 1
    assert "no such file" in missing.stderr


@pytest.mark.parametrize(
    "command",
    [
        "portal update b",
        "portal update b --link Docs",
        "buckets update b --self-serve x",
        "buckets update b",
        "keys update acme key_1",
        "consumers update acme",
        "keys update acme key_1 --scope a --no-scopes",
        "keys update acme key_1 --no-scopes --inherit-scopes",
        "consumers update acme --allowed-ip ::1 --any-ip",
        "buckets update b --default-scope a --no-default-scopes",
        "plans update gold",
        "plans update gold --rate-limit a=1/10 --no-rate-limits",
        "consumers update acme --plan gold --no-plan",
        "consumers update acme --no-rate-limits --inherit-rate-limits",
        "keys create acme --rate-limit 600/60",
        "keys create acme --rate-limit a=600",
        "keys create acme --rate-limit a=600/60/region",
        "keys create acme --rate-limit a=-1/60",
        "keys create acme --rate-limit =1/60",
        "keys create acme --rate-limit a=\u0661/60",
    ],
)
def test_a_change_that_says_nothing_is_refused_before_anything_is_sent(keywright: CommandLine, command: str) -> None:
    assert keywright(*command.split(" ")).exit_code == 2
    assert not keywright.api.requests


@pytest.mark.parametrize("command", REQUESTS)
def test_json_is_exactly_what_the_api_answered(keywright: CommandLine, command: str) -> None:
    method, path, *_ = REQUESTS[command]
    status, value = answer_of(command, method)
    keywright.api.answer(method, path, value, status=status)

    result = keywright(*command.split(" "), "--json", stdin="my-own-secret-0001\n")

    assert result.exit_code == 0
    assert result.stdout == ("" if value is None else json.dumps(value) + "\n")
    assert result.stderr == ""


def test_a_portal_that_nobody_has_changed_is_told_of(keywright: CommandLine) -> None:
    untouched = dict.fromkeys(("name", "color", "supportEmail", "apiUrl", "logoUrl")) | {"links": []}
    keywright.api.answer("GET", f"{BUCKETS}/my-bucket/portal", untouched)

    result = keywright("portal", "get", "my-bucket")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "the portal is named after its bucket, my-bucket" in result.stderr


@pytest.mark.parametrize("command", [command for command in REQUESTS if " delete " in command])
def test_nothing_is_deleted_unasked_where_nobody_can_be_asked(keywright: CommandLine, command: str) -> None:
    result = keywright(*(word for word in command.split() if word not in {"--yes", "-y"}))

    assert result.exit_code == 1
    assert result.stderr == "keywright: there is no terminal to confirm on; pass --yes to delete\n"
    assert not keywright.api.requests


@pytest.mark.parametrize(
    ("command", "path", "advice"),
    [
        ("buckets list", BUCKETS, "keywright buckets create my-bucket"),
        ("consumers list", CONSUMERS, "keywright consumers create my-consumer --with-key"),
        ("consumers list --tag a=b", CONSUMERS, "No consumers match."),
        ("keys list acme", f"{ACME}/keys", "keywright keys create acme"),
        ("plans list", PLANS, "keywright plans create gold --rate-limit per-minute=600/60"),
        ("managers list acme", f"{ACME}/managers", "keywright managers add acme jo@example.com"),
    ],
)
def test_an_empty_list_says_what_to_do_next(keywright: CommandLine, command: str, path: str, advice: str) -> None:
    keywright.api.answer("GET", path, page_of())

    result = keywright(*command.split())

    assert (result.exit_code, result.stdout) == (0, "")
    assert advice in result.stderr


def test_a_list_is_aligned_plain_text_in_a_pipe(keywright: CommandLine) -> None:
    off = {"enabled": False, "disabledBy": "provider"}
    keys = [KEY, {**KEY, **off, "description": "For the tests", "expiresOn": "2027-01-31T12:00:00.000Z"}]
    keywright.api.answer("GET", f"{ACME}/keys", page_of(*keys))
    start, key = "ID                            KEY", "key_0HfT6wtn1uyYNkLjbVNQEVzK  ****2efb7009"
    made = "2026-11-23 10:26:05 UTC"

    result = keywright("keys", "list", "acme")

    assert result.stdout.splitlines() == [
        f"{start:44}{'DESCRIPTION':15}{'STATE':22}{'EXPIRES':25}{'LAST USED':11}CREATED",
        f"{key:44}{'-':15}{'on':22}{'never':25}{'never':11}{made}",
        f"{key:44}{'For the tests':15}{'off, by the provider':22}{'2027-01-31 12:00:00 UTC':25}{'never':11}{made}",
    ]
    assert result.stderr == ""


def test_a_plan_is_shown_with_its_limits_as_they_are_typed_and_who_has_it(keywright: CommandLine) -> None:
    keywright.api.answer("GET", PLANS, page_of(PLAN, {**PLAN, "name": "bare", "scopes": None, "rateLimits": []}))

    lines = keywright("plans", "list").stdout.splitlines()

    assert lines[0].split() == [
        "NAME", "DESCRIPTION", "SCOPES", "RATE", "LIMITS", "QUOTAS", "CONSUMERS",
    ]  # fmt: skip
    assert "orders:*" in lines[1]
    assert "per-minute=600/60, burst=5/1/edge" in lines[1]
    assert lines[1].endswith("12")
    assert "none" in lines[2]


def test_a_page_tells_of_the_next(keywright: CommandLine) -> None:
    keywright.api.answer("GET", BUCKETS, page_of(BUCKET, BUCKET, total=7, offset=2))

    result = keywright("buckets", "list", "--limit", "2", "--offset", "2")

    assert result.stderr == "3 to 4 of 7. --offset 4 lists the next, --all lists all.\n"


def test_a_page_behind_the_end_is_not_called_an_empty_account(keywright: CommandLine) -> None:
    keywright.api.answer("GET", BUCKETS, page_of(total=7, offset=10))

    assert keywright("buckets", "list", "--offset", "10").stderr == "No more: there are 7.\n"


def test_all_asks_until_nothing_is_left(keywright: CommandLine) -> None:
    for number in range(3):
        keywright.api.answer(
            "GET", BUCKETS, page_of({**BUCKET, "id": f"bckt_{number}", "name": f"b-{number}"}, total=3)
        )

    result = keywright("buckets", "list", "--all", "--limit", "1")

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["NAME", "b-0", "b-1", "b-2"]
    assert [request.query.get("offset") for request in keywright.api.requests[1:]] == ["0", "1", "2"]


def test_a_consumer_is_shown_with_its_keys_and_managers(keywright: CommandLine) -> None:
    invited = {"id": "eusr_2", "email": "al@example.com", **TIMES}
    keywright.api.answer(
        "GET", ACME, {**CONSUMER, "apiKeys": [KEY], "managers": [MANAGER], "managerInvites": [invited]}
    )

    lines = keywright("consumers", "get", "acme").stdout.splitlines()

    assert lines[:4] == ["name         acme", "id           csmr_1", "description  Acme, Inc.", 'metadata     {"n": 1}']
    assert "tags         plan=gold" in lines
    assert "Keys" in lines
    assert any(line.startswith("key_0HfT6wtn1uyYNkLjbVNQEVzK  ****2efb7009") for line in lines)
    assert any("al@example.com  (invited)" in line for line in lines)


def test_a_new_bucket_prints_its_owner_key_once_with_a_note(keywright: CommandLine) -> None:
    keywright.api.answer("POST", BUCKETS, {**BUCKET, "ownerKey": {**KEY, "key": SECRET}})

    result = keywright("buckets", "create", "my-bucket")

    assert re.search(rf"^owner key +{SECRET}$", result.stdout, re.MULTILINE)
    assert result.stderr == "Save the owner key now: it won't be shown again.\n"


def test_roll_asks_for_the_new_key_and_prints_it(keywright: CommandLine) -> None:
    keywright.api.answer("POST", f"{ACME}/roll-key", {**KEY, "key": SECRET})

    result = keywright("consumers", "roll", "acme")

    assert keywright.api.last.headers["prefer"] == "return=representation"
    assert SECRET in result.stdout
    assert result.stderr == "The other keys of acme have expired.\n"


def test_roll_says_until_when_the_other_keys_work(keywright: CommandLine) -> None:
    keywright.api.answer("POST", f"{ACME}/roll-key", {**KEY, "key": SECRET})

    result = keywright("keys", "roll", "acme", "--expires-on", "2027-01-31")

    assert result.stderr == "The other keys of acme expire by 2027-01-31 00:00:00 UTC.\n"


def test_an_end_in_the_past_is_told_to_end_the_key(keywright: CommandLine) -> None:
    keywright.api.answer("PATCH", f"{ACME}/keys/key_1", KEY)

    result = keywright("keys", "update", "acme", "key_1", "--expires-on", "2001-01-31")

    assert result.stderr == "That time has passed: the key is refused from now on.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("consumers", "update", "acme"),
        ("keys", "update", "acme", "key_1"),
        ("buckets", "update", "my-bucket", "--tag", "a=b", "--no-tags"),
        ("consumers", "roll", "acme", "--expires-on", "never"),
        ("keys", "create", "acme", "--expires-on", "soon"),
        ("consumers", "create", "acme", "--metadata", "[]"),
        ("consumers", "list", "--tag", "a"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error_before_anything_is_sent(
    keywright: CommandLine, arguments: tuple[str, ...]
) -> None:
    assert keywright(*arguments).exit_code == 2
    assert not keywright.api.requests


def test_a_secret_among_the_arguments_is_refused_and_not_quoted(keywright: CommandLine) -> None:
    result = keywright("keys", "create", "acme", "--key", SECRET)

    assert result.exit_code == 2
    assert "d67b7e24" not in result.output
    assert not keywright.api.requests


def test_a_missing_bucket_names_the_option_and_the_variable(keywright: CommandLine) -> None:
    result = keywright("consumers", "list", env={"KEYWRIGHT_BUCKET": None})

    assert result.exit_code == 2
    assert "--bucket" in result.stderr
    assert "KEYWRIGHT_BUCKET" in result.stderr
