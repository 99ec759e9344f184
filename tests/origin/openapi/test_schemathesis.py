"""Schemathesis speaks to a real `keywright serve` as our OpenAPI document says, and finds nothing.

Its engine runs whole: examples, coverage of every rule of every schema, fuzzing, and chains of calls, with all checks.
"""

from __future__ import annotations

import base64
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import Status, events, from_schema
from schemathesis.generation.meta import TestPhase

from keywright.domain.keyformat import Digester
from keywright.domain.limits import MAX_COST, NAME
from keywright.domain.scopes import find_fault
from keywright.domain.text import is_whole
from keywright.origin.openapi.fields import NETWORK_FORMAT, parse_moment
from keywright.origin.openapi.limits import TIME_ZONE_FORMAT
from keywright.origin.pipeline.publish import DEFAULT_MILLIS, MAX_MILLIS
from keywright.protocol.reports import EdgeState, Report, ReportSigner
from support import identity
from support.identity import ADA, AUDIENCE, IdentityProvider
from support.process import NO_TLS, ServeProcess

pytestmark = pytest.mark.long(70)

NETWORKS = [f"10.{number}.0.0/16" for number in range(100)] + [f"2001:db8:{number:x}::/48" for number in range(100)]
schemathesis.openapi.format(TIME_ZONE_FORMAT, st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]))
schemathesis.openapi.format(NETWORK_FORMAT, st.sampled_from([*NETWORKS, "192.0.2.1", "::1", "0.0.0.0/0"]))

ROOT_KEY = "root-key-of-the-tested-deployment"
MAX_EXAMPLES = 8
SOON_MILLIS = 20
FOR_END_USERS = r"^/(v1/self-serve|v2/client)/"
BUCKETS = "^/v1/accounts/{accountName}/key-buckets"
CONSUMERS = BUCKETS + "/{bucketName}/consumers"
PARTS = {
    "accounts": "^/v1/accounts(?!.*/(key-buckets|management-keys|edges))",
    "management keys": "^/v1/accounts/{accountName}/management-keys",
    "edges": "^/v1/accounts/{accountName}/edges",
    "buckets": BUCKETS + "(/{bucketName})?$",
    "sharing": BUCKETS + "/{bucketName}/(owner-keys|grants)",
    "portal": BUCKETS + "/{bucketName}/portal",
    "plans": BUCKETS + "/{bucketName}/plans",
    "consumers": CONSUMERS + "(/{consumerName})?$",
    "managers": CONSUMERS + "/{consumerName}/(managers|roll-key)",
    "quotas": CONSUMERS + "/{consumerName}/quotas",
    "keys": CONSUMERS + "/{consumerName}/keys",
    "usage": f"({BUCKETS}/{{bucketName}}/(usage|keys)|{CONSUMERS}/{{consumerName}}/usage)$",
    "answers": "^/(?!v1/accounts|v1/self-serve|v2/client)",
}
"""What is asked with a management key: thousands of requests, a few seconds for each part."""
VALIDATE = "POST /v1/validate/{bucketName}"
ACCOUNT = "/v1/accounts/my-account"
_numbers = itertools.count()
GRANTED = ("enabled", "grantedScopes", "allowedIps", "plan", "rateLimits", "quotas")
REPEATED = {
    "updateBucket": ("name", "isRetrievable", "ownerKey"),
    "updatePlan": ("name",),
    "updateConsumer": ("name", "apiKeys", "managers", "managerInvites"),
    "updateKey": ("key",),
    "updateManagementKey": ("description", "expiresOn", "permissions", "key"),
    "updateOwnerKey": ("description", "expiresOn", "scopes", "metadata", "tags", "rateLimits", "key"),
    "updateMyKey": ("description", "expiresOn", "key"),
    "updateClientKey": ("description", "expiresOn", "key"),
    "updateMyConsumer": ("name", "apiKeys", *GRANTED),
    "updateClientConsumer": ("subject", "expiresOn", "apiKeys", *GRANTED),
}
MANAGER = {"email": ADA["email"], "sub": ADA["sub"]}
FUTURE = "2999-12-31T23:59:59.000Z"
BUCKET = {
    "selfServe": {"createConsumers": True, "maxConsumers": 1000, "maxKeys": 1000},
    "defaultScopes": ["*"],
}
# A consumer can be named `my`, and so be changed and deleted where the document has a list only. To name those methods
# in `Allow` is right (RFC 9110 section 10.2.1), and OpenAPI, which puts exact paths first, can't say it.
NAMED_MY = "/v1/self-serve/{bucketName}/consumers/my: allow_header_conformance"


class World:
    """Things that exist, so that generated requests reach more than 404; what is to be deleted is made anew."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._client = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {ROOT_KEY}"}, verify=NO_TLS)
        self._turns: Counter[str] = Counter()
        self.statuses: dict[str, Counter[int]] = {}
        self.phases: Counter[TestPhase] = Counter()
        # Each test has a world of its own, since requests change it, but for this account.
        self._own_key = self._client.get("/v1/who-am-i").json()["sub"]
        made = self._client.post("/v1/accounts", json={"name": "partner-account"})
        assert made.status_code in {200, 409}, made.text
        self._names = {"accountName": "my-account", "otherAccount": "partner-account", "quotaName": "calls"}
        for name in ("bucketName", "projectName", "planName", "consumerName", "managerId", "edgeId"):
            self._names[name] = self._make(name)
        consumer = f"{ACCOUNT}/key-buckets/{self._names['bucketName']}/consumers/{self._names['consumerName']}"
        self._names["consumerId"] = self._client.get(consumer).json()["id"]
        self._reservation: str | None = None

    def close(self) -> None:
        self._client.close()

    def _reserve(self) -> str:
        """The token of a reservation. However often it is settled, it is answered."""
        consumers = f"{ACCOUNT}/key-buckets/{self._names['bucketName']}/consumers?with-api-key=true"
        quota = {"name": "calls", "limit": 10**9, "period": "none"}
        made = self._client.post(consumers, json={"name": f"reserves-{next(_numbers)}", "quotas": [quota]}).json()
        question = {"key": made["apiKeys"][0]["key"], "reserve": 5}
        told = self._client.post(f"/v2/validate/{self._names['bucketName']}", json=question).json()
        return str(told["reservation"]["token"])

    def place(self, case: Any) -> None:
        """Puts existing names into the path of a request that is meant well, the first two of each three times."""
        if isinstance(case.body, dict) and case.body.get("account") == "my-account":
            # The one account that a bucket of this account can't be shared with.
            case.body["account"] = "partner-account"
        if isinstance(case.body, dict):
            # They may be sent back as they are; no schema can say that.
            for name in REPEATED.get(case.operation.definition.raw["operationId"], ()):
                case.body.pop(name, None)
            if isinstance(case.body.get("plan"), str) and is_whole(NAME, case.body["plan"]):
                case.body["plan"] = self._names["planName"]
        amend_keys(case)
        amend_usage(case)
        if is_settling(case):
            # Which tokens were made here, no schema can say.
            self._reservation = self._reservation or self._reserve()
            case.body["reservation"] = self._reservation
        if case.path_parameters.get("keyId") == self._own_key:
            # It was listed, and all that comes is asked with it.
            case.path_parameters["keyId"] = self._make("keyId", case.operation.path)
        if case.meta is None or case.meta.phase.name is TestPhase.STATEFUL:
            return
        path = case.meta.components.get(ParameterLocation.PATH)
        if path is None or not path.mode.is_positive:
            return
        self._turns[case.operation.label] += 1
        if self._turns[case.operation.label] % 3 == 0:
            return
        last = case.operation.path.rpartition("{")[2].rstrip("}")
        for name in case.path_parameters:
            if name == "keyId" or (name == last and case.method == "DELETE"):
                case.path_parameters[name] = self._make(name, case.operation.path)
            else:
                case.path_parameters[name] = self._names[name]

    def hurry(self, case: Any) -> None:
        """There is one edge: what waits for more waits for nothing, and so not for long."""
        revision = str((case.headers or {}).get("Min-Revision", ""))
        if case.operation.label != VALIDATE and revision.isascii() and revision.isdecimal():
            # A replica that is not there yet says so before it looks at anything else; `VALIDATE` is enough to show it.
            case.headers["Min-Revision"] = "1"
        query = case.query
        if isinstance(query, dict) and "wait" in query:
            given = str(query.get("timeout", DEFAULT_MILLIS))
            if given.isascii() and given.isdecimal() and SOON_MILLIS < int(given) <= MAX_MILLIS:
                query["timeout"] = SOON_MILLIS

    def count(self, case: Any, response: Any) -> None:
        self.statuses.setdefault(case.operation.label, Counter())[response.status_code] += 1
        if case.meta is not None:
            self.phases[case.meta.phase.name] += 1

    def _make(self, name: str, path: str = "") -> str:
        number = next(_numbers)
        if name == "edgeId":
            return self._report_an_edge(f"edge-{number}")
        bucket = f"{ACCOUNT}/key-buckets/{self._names.get('bucketName')}"
        consumer = f"{bucket}/consumers/{self._names.get('consumerName')}"
        kind = next((one for one in ("management-keys", "owner-keys") if f"/{one}/" in path), name)
        url, body, shown = {
            "projectName": (f"{ACCOUNT}/projects", {"name": f"project-{number}"}, "name"),
            "bucketName": (
                f"{ACCOUNT}/key-buckets",
                {"name": f"bucket-{number}", **BUCKET},
                "name",
            ),
            "planName": (f"{bucket}/plans", {"name": f"plan-{number}"}, "name"),
            "consumerName": (f"{bucket}/consumers", {"name": f"consumer-{number}", "managers": [MANAGER]}, "name"),
            "consumerId": (f"{bucket}/consumers", {"name": f"consumer-{number}", "managers": [MANAGER]}, "id"),
            "managerId": (f"{consumer}/managers", {"email": f"ada{number}@example.com"}, "id"),
            "otherAccount": (f"{bucket}/grants", {"account": "partner-account", "access": "read"}, "account"),
            "management-keys": (f"{ACCOUNT}/management-keys", {"permissions": {}}, "id"),
            "owner-keys": (f"{bucket}/owner-keys", {}, "id"),
            "keyId": (f"{consumer}/keys", {}, "id"),
        }[kind]
        if kind in {"owner-keys", "planName"}:
            # A bucket has a hundred at most.
            there = self._client.get(url, params={"limit": "1000"}).json()["data"]
            for one in there[1:] if len(there) > 50 else ():
                self._client.delete(f"{url}/{one[shown]}")
        return str(self._post(url, **body)[shown])

    def _report_an_edge(self, name: str) -> str:
        """The id of an edge that there is in its report only."""
        deployment_id = (self._data_dir / "deployment.id").read_text().strip()
        digester = Digester(base64.b64decode((self._data_dir / "pepper.key").read_text()))
        instance, now = f"{name:->32}", time.time_ns() // 1_000_000
        report = Report(deployment_id, instance, "0" * 16, now, name, "", "9.9", EdgeState.STARTING, now, None, None)
        answer = self._client.post("/v1/feed/acknowledgements", content=ReportSigner(digester).encode(report))
        assert answer.status_code == 200, answer.text
        edges = self._client.get(f"{ACCOUNT}/edges").json()["data"]
        return next(str(edge["id"]) for edge in edges if edge["name"] == name)

    def _post(self, url: str, **body: Any) -> Any:
        response = self._client.post(url, json=body)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity.running() as running:
        yield running


@pytest.fixture(scope="module")
def served(provider: IdentityProvider, quick_dir: Path) -> Iterator[ServeProcess]:
    variables = {
        "KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY,
        "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0",
        "KEYWRIGHT_SELF_SERVE_RATE_LIMIT": "0",
        "KEYWRIGHT_MIN_REVISION_TIMEOUT_SECONDS": str(SOON_MILLIS / 1000),
        "KEYWRIGHT_OIDC_ISSUER": provider.url,
        "KEYWRIGHT_OIDC_AUDIENCE": AUDIENCE,
        "KEYWRIGHT_IDENTITY_TOKEN_SECONDS": "60",
    }
    with ServeProcess(quick_dir / "data", **variables) as process:
        yield process.wait_until_ready()


@pytest.fixture
def world(served: ServeProcess, quick_dir: Path) -> Iterator[World]:
    made = World(served.url, quick_dir / "data")

    @schemathesis.hook
    def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
        made.place(case)
        made.hurry(case)

    @schemathesis.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        made.count(case, response)

    yield made
    schemathesis.hooks.unregister_all()
    made.close()


@pytest.mark.parametrize("part", PARTS)
def test_schemathesis_finds_nothing(served: ServeProcess, world: World, part: str) -> None:
    schema = schema_of(served).include(path_regex=PARTS[part])
    schema.config.phases.stateful.enabled = False
    run(schema, served.url, ROOT_KEY)
    # It was let in by every operation: forward-auth alone is asked with a management key, which is none there.
    assert not_answered_well(schema, world) == ({"GET /v1/forward-auth/{bucketName}"} if part == "answers" else set())
    if part == "answers":
        # What was said of `Min-Revision` was tried: some came too early.
        assert world.statuses[VALIDATE][503]


def test_schemathesis_finds_nothing_in_chains_of_all_calls(served: ServeProcess, world: World) -> None:
    schema = schema_of(served).exclude(path_regex=FOR_END_USERS)
    schema.config.phases.coverage.enabled = schema.config.phases.fuzzing.enabled = False
    run(schema, served.url, ROOT_KEY)
    assert world.phases[TestPhase.STATEFUL]


def test_every_operation_is_of_one_part(served: ServeProcess) -> None:
    parts = [schema_of(served).include(path_regex=part) for part in (*PARTS.values(), FOR_END_USERS)]
    assert Counter(itertools.chain(*map(labels_of, parts))) == Counter(labels_of(schema_of(served)))


def test_schemathesis_finds_nothing_as_an_end_user(
    served: ServeProcess, world: World, provider: IdentityProvider
) -> None:
    schema = schema_of(served).include(path_regex=FOR_END_USERS)
    run(schema, served.url, provider.token(ADA, exp=int(time.time()) + 3600))
    assert not_answered_well(schema, world) == set()


def schema_of(served: ServeProcess) -> Any:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    schema.config.generation.update(deterministic=True, allow_x00=False, max_examples=MAX_EXAMPLES)
    # It would guess further rules from the words of our refusals, and complain that we do not keep them.
    schema.config.phases.fuzzing.error_feedback.is_enabled = False
    return schema


def run(schema: Any, url: str, token: str) -> None:
    schema.config.update(base_url=url, headers={"Authorization": f"Bearer {token}"}, continue_on_failure=True)
    found = [finding for event in from_schema(schema).execute() for finding in findings(event)]
    assert not found, "\n\n".join(found)


def not_answered_well(schema: Any, world: World) -> set[str]:
    """The operations that no request got anything from."""
    return {label for label in labels_of(schema) if not world.statuses.get(label, Counter()).keys() & {200, 204}}


def labels_of(schema: Any) -> list[str]:
    return [found.ok().label for found in schema.get_all_operations()]


def amend_keys(case: Any) -> None:
    """What no schema can say of the keys that a request would make or change."""
    for body in case.body if isinstance(case.body, list) else [case.body]:
        # None may be made that has ended; no schema knows what time it is.
        if isinstance(body, dict) and is_past(body.get("expiresOn")) and case.method == "POST":
            body["expiresOn"] = FUTURE
    # A question names the scopes that it demands.
    for body in keys_in(case.body) if "/validate/" not in case.path else ():
        # They have to be among the consumer's, which the same request or a call before may have set.
        if is_scopes(body.get("scopes")):
            body["scopes"] = None
    if (
        case.operation.path.startswith("/v2/validate")
        and isinstance(case.body, dict)
        and is_cost(case.body.get("reserve"))
    ):
        # It is in place of these, and no schema says so. What is wrong of them stays.
        if is_cost(case.body.get("cost")):
            del case.body["cost"]
        if type(case.body.get("peek")) is bool:
            del case.body["peek"]
    for body in (case.body, *keys_in(case.body)):
        for member in ("rateLimits", "quotas"):
            limits = body.get(member) if isinstance(body, dict) else None
            some = [one for one in limits if isinstance(one, dict)] if isinstance(limits, list) else []
            names = [one.get("name") for one in some]
            if any(names.count(name) > 1 for name in names):
                # Each has a name of its own, which no schema can say.
                body[member] = some[:1]


def is_settling(case: Any) -> bool:
    body = case.body
    return (
        case.operation.path == "/v2/settle"
        and isinstance(body, dict)
        and body.keys() == {"reservation", "cost"}
        and isinstance(body["reservation"], str)
        and is_cost(body["cost"], least=0)
    )


def amend_usage(case: Any) -> None:
    """What no schema can say of usage: what time it is, that a range has an order, and that addresses have days."""
    if case.operation.path.endswith("/usage"):
        if (case.query or {}).get("by") == "address":
            case.query.pop("interval", None)
        for name in ("from", "to"):
            if is_moment((case.query or {}).get(name)):
                del case.query[name]


def keys_in(body: Any) -> list[dict[str, Any]]:
    """The keys that a request would make or change."""
    inner = body.get("apiKeys") if isinstance(body, dict) else body
    return [one for one in (inner if isinstance(inner, list) else [body]) if isinstance(one, dict)]


def is_scopes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and find_fault(value) is None


def is_cost(value: Any, least: int = 1) -> bool:
    # To JSON 5.0 is a whole number, too.
    return type(value) in {int, float} and least <= value <= MAX_COST and value == int(value)


def is_past(moment: Any) -> bool:
    try:
        return parse_moment(moment) <= datetime.now(UTC) + timedelta(minutes=1)
    except ValueError:
        return False


def is_moment(value: Any) -> bool:
    try:
        parse_moment(value)
    except ValueError:
        return False
    return True


def findings(event: events.EngineEvent) -> Iterator[str]:
    """What the engine complains about, each with the call that shows it."""
    if isinstance(event, events.ScenarioFinished):
        for checks in event.recorder.checks.values():
            for check in checks:
                if check.status is Status.FAILURE and check.failure_info is not None and not is_right(event, check):
                    info = check.failure_info
                    yield f"{event.recorder.label}: {check.name}: {info.failure}\n{info.code_sample}"
    elif isinstance(event, events.NonFatalError):
        yield f"{event.label}: {event.value!r}"
    elif isinstance(event, events.FatalError):
        yield repr(event.exception)


def is_right(event: events.ScenarioFinished, check: Any) -> bool:
    """Whether what the engine complains about is as it has to be."""
    label = event.recorder.label
    if label == VALIDATE and check.name == "not_a_server_error":
        # No replica has what a `Min-Revision` of the far future asks for.
        return bool(check.failure_info.failure.status_code == 503)
    failure = str(check.failure_info.failure)
    if any(f"violates `patternProperties` at /properties/{name}" in failure for name in ("tag", "key-tag")):
        # A parameter that is not named as a tag is another one, and passed over as others are.
        return True
    return f"{label}: {check.name}".endswith(NAMED_MY)
