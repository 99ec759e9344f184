"""One judge: what a key's powers come to is the same at every endpoint and every source of the policy.

The rows are states with the verdict that each must have; below, any combination of powers against a plain model.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key, new_id
from endpoints.test_policy import PEPPER, ClosableFeed
from keywright.domain import models
from keywright.domain.limits import LimitScope, RateLimit
from keywright.domain.networks import Networks, parse_address, parse_network
from keywright.domain.powers import Demand, encode_powers
from keywright.edge.gateway_clients import GatewayClients
from keywright.edge.grpc.ext_authz import ExtAuthz
from keywright.edge.grpc.ext_authz_pb2 import CheckRequest
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.limits.table import LIMITS_DIRECTORY, LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.http.client_address import ClientAddresses
from keywright.policy.embedded import EmbeddedReplica
from keywright.policy.generic import ApiKeyPolicy
from keywright.policy.remote import RemoteEdge
from keywright.policy.shared import SharedReplica
from keywright.protocol.changes import ConsumerPut, KeyPut, PlanPut
from keywright.runtime.clock import Clock
from support.clock import FakeClock
from support.http import serving, through_asgi

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from keywright.policy.rules.sources import Source
    from keywright.protocol.changes import Change

PROXY = "10.1.1.1"
ADDRESSES = ClientAddresses(Networks([parse_network(PROXY)]), "x-real-ip")
OFF: dict[str, Any] = {"enabled": False}
HOME, AWAY, HOME6 = "192.0.2.7", "198.51.100.9", "2001:db8::7"
FEATURES = ("enabled", "scopes", "allowedIps", "metadata", "plan", "rateLimits")


@dataclass(frozen=True)
class State:
    """A key, its consumer and its bucket, as they were said to be; what is asked of the key, and the verdict."""

    name: str
    code: str
    key: dict[str, Any] = field(default_factory=dict)
    consumer: dict[str, Any] = field(default_factory=dict)
    defaults: Sequence[str] = ()
    scopes: Sequence[str] = ()
    ip: str | None = None
    expires_at: int | None = None
    plan: dict[str, Any] | None = None
    is_spent: bool = False
    """Whether the key was good as often as its limits allow before it is asked about."""

    @property
    def demand(self) -> Demand:
        return Demand(tuple(self.scopes), None if self.ip is None else parse_address(self.ip))

    @property
    def secret(self) -> str:
        return "zpka_" + self.name.replace(" ", "-")

    @property
    def bucket(self) -> str:
        return self.name.replace(" ", "-").lower()

    def records(self, number: int) -> list[Change]:
        plans: list[Change] = []
        consumers = dict(self.consumer)
        if self.plan is not None:
            plans.append(PlanPut(number, new_id(models.IdKind.PLAN), number, "gold", encode_powers(**self.plan)))
            consumers["plan"] = number
        return [
            replace(bucket(number, self.bucket), features=FEATURES, default_scopes=tuple(self.defaults)),
            *plans,
            replace(consumer(number, number), powers=encode_powers(**consumers)),
            replace(key(self.secret, number, number, self.expires_at), powers=encode_powers(**self.key)),
        ]


def nets(*texts: str) -> dict[str, Any]:
    return {"allowed_ips": texts}


def good_for(*scopes: str) -> dict[str, Any]:
    return {"scopes": scopes}


def limited(limit: int, name: str = "burst", scope: LimitScope = LimitScope.EDGE) -> dict[str, Any]:
    """Nothing of it is given back while a test runs."""
    return {"rate_limits": [RateLimit(name, limit, 86_400, scope)]}


READ = ["orders:read"]
ONE, MANY = limited(1), limited(1_000_000)
STATES = [
    State("plain", "VALID"),
    State("plain with an address", "VALID", ip=HOME),
    State("plain asked for a scope", "INSUFFICIENT_SCOPE", scopes=READ),
    State("key off", "DISABLED", key=OFF),
    State("consumer off", "DISABLED", consumer=OFF),
    State("both off", "DISABLED", key=OFF, consumer=OFF),
    State("off and expired", "DISABLED", key=OFF, expires_at=NOW),
    State("off and elsewhere and lacking", "DISABLED", key=OFF | nets("192.0.2.0/24"), scopes=READ, ip=AWAY),
    State("expired and elsewhere and lacking", "EXPIRED", nets("192.0.2.0/24"), scopes=READ, ip=AWAY, expires_at=NOW),
    State("elsewhere and lacking", "IP_NOT_ALLOWED", nets("192.0.2.0/24"), scopes=READ, ip=AWAY),
    State("key from home", "VALID", nets("192.0.2.0/24"), ip=HOME),
    State("key from away", "IP_NOT_ALLOWED", nets("192.0.2.0/24"), ip=AWAY),
    State("key from nowhere known", "IP_NOT_ALLOWED", nets("0.0.0.0/0", "::/0")),
    State("consumer from home", "VALID", consumer=nets("192.0.2.0/24"), ip=HOME),
    State("consumer from away", "IP_NOT_ALLOWED", consumer=nets("192.0.2.0/24"), ip=AWAY),
    State("key and consumer disagree", "IP_NOT_ALLOWED", nets("192.0.2.0/24"), nets("198.51.100.0/24"), ip=HOME),
    State("key and consumer agree", "VALID", nets("192.0.2.0/24"), nets("192.0.2.7"), ip=HOME),
    State("six from six", "VALID", nets("2001:db8::/32"), ip=HOME6),
    State("six from four", "IP_NOT_ALLOWED", nets("::/0"), ip=HOME),
    State("four written as six", "VALID", nets("192.0.2.7/32"), ip=f"::ffff:{HOME}"),
    State("last of many", "VALID", nets(*(f"203.0.113.{n}" for n in range(49)), "192.0.2.0/24"), ip=HOME),
    State("consumer has it", "VALID", consumer=good_for("orders:read"), scopes=READ),
    State("consumer has none", "INSUFFICIENT_SCOPE", consumer=good_for(), defaults=["*"], scopes=READ),
    State("bucket has it", "VALID", defaults=["orders:read"], scopes=READ),
    State("bucket is replaced", "INSUFFICIENT_SCOPE", consumer=good_for("b"), defaults=["orders:read"], scopes=READ),
    State("key cuts the consumer", "INSUFFICIENT_SCOPE", good_for("b"), good_for("b", "orders:read"), scopes=READ),
    State("key has what the consumer lost", "INSUFFICIENT_SCOPE", good_for("orders:read"), good_for("b"), scopes=READ),
    State("key cuts the bucket", "VALID", good_for("orders:read"), defaults=["*"], scopes=READ),
    State("key has none", "INSUFFICIENT_SCOPE", good_for(), good_for("*"), scopes=READ),
    State("key has none and nothing is asked", "VALID", good_for(), good_for("*")),
    State("all of it", "VALID", consumer=good_for("*"), scopes=["a:b:c", "d"]),
    State("all below", "VALID", consumer=good_for("orders:*"), scopes=["orders:items:read", "orders:read"]),
    State("not what it is below", "INSUFFICIENT_SCOPE", consumer=good_for("orders:*"), scopes=["orders"]),
    State("no other name", "INSUFFICIENT_SCOPE", consumer=good_for("orders:*"), scopes=["ordersx:read"]),
    State("one of two", "INSUFFICIENT_SCOPE", consumer=good_for("orders:read"), scopes=["orders:read", "b"]),
    State("a star is asked for", "VALID", consumer=good_for("orders:*"), scopes=["orders:*"]),
    State("a star is not had", "INSUFFICIENT_SCOPE", consumer=good_for("orders:read"), scopes=["orders:*"]),
    State("everything at once", "VALID", OFF | {"enabled": True} | good_for("orders:*") | nets("192.0.2.0/24"),
          good_for("*") | MANY, scopes=READ, ip=HOME, expires_at=NOW + 1),
    State("key within its limit", "VALID", MANY),
    State("consumer within its limit", "VALID", consumer=MANY),
    State("plan within its limit", "VALID", plan=MANY),
    State("key beyond its limit", "RATE_LIMITED", ONE, is_spent=True),
    State("consumer beyond its limit", "RATE_LIMITED", consumer=ONE, is_spent=True),
    State("plan beyond its limit", "RATE_LIMITED", plan=ONE, is_spent=True),
    State("beyond the limit of all edges", "RATE_LIMITED", limited(2, scope=LimitScope.GLOBAL), is_spent=True),
    State("key beyond and consumer within", "RATE_LIMITED", ONE, MANY, is_spent=True),
    State("key within and consumer beyond", "RATE_LIMITED", MANY, ONE, is_spent=True),
    State("consumer replaces the plan", "VALID", consumer=MANY, plan=ONE, is_spent=True),
    State("consumer has none of its plan", "VALID", consumer={"rate_limits": []}, plan=ONE, is_spent=True),
    State("beyond and off", "DISABLED", OFF, ONE),
    State("beyond and expired", "EXPIRED", consumer=ONE, expires_at=NOW),
    State("beyond and elsewhere", "IP_NOT_ALLOWED", ONE | nets("192.0.2.0/24"), ip=AWAY),
    State("beyond and lacking", "INSUFFICIENT_SCOPE", consumer=ONE, scopes=READ),
    State("lacking nothing and beyond", "RATE_LIMITED", ONE, good_for("*"), scopes=READ, is_spent=True),
]  # fmt: skip
HTTP = {"VALID": 200, "DISABLED": 401, "EXPIRED": 401, "IP_NOT_ALLOWED": 403, "INSUFFICIENT_SCOPE": 403,
        "RATE_LIMITED": 429}  # fmt: skip
CODES = {
    "The key is switched off.": "DISABLED",
    "The key has expired.": "EXPIRED",
    "The key may not be used from this address.": "IP_NOT_ALLOWED",
    "The key was used too often.": "RATE_LIMITED",
}


def code_of(status: int, document: Any, challenge: str | None, scopes: Sequence[str]) -> str:
    """The verdict that an answer over HTTP stands for, whose parts must belong together."""
    if status == 200:
        return "VALID"
    told = document["detail"]
    code = CODES.get(told, "INSUFFICIENT_SCOPE")
    assert status == document["status"] == HTTP[code]
    if code == "INSUFFICIENT_SCOPE":
        assert told == f"The key is not good for this: {' '.join(scopes)}."
        assert challenge == f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
    else:
        assert challenge == ('Bearer error="invalid_token"' if status == 401 else None)
    return code


async def at_validator(validator: Validator, state: State) -> str:
    return str(validator.validate(state.secret, state.bucket, state.demand).verdict)


async def at_v1(validator: Validator, state: State) -> str:
    asked = {"key": state.secret} | ({"scopes": list(state.scopes)} if state.scopes else {})
    asked |= {} if state.ip is None else {"ip": state.ip}
    answer = await call(ValidateApi(validator), "POST", f"/v1/validate/{state.bucket}", body=json.dumps(asked).encode())
    if len(asked) > 1:
        assert answer.status == 400
        return state.code
    return str(answer.json()["code"])


async def at_v2(validator: Validator, state: State) -> str:
    asked = {"key": state.secret, "scopes": list(state.scopes), "ip": state.ip}
    api = ValidateApi(validator, is_v2=True)
    told = (await call(api, "POST", f"/v2/validate/{state.bucket}", body=json.dumps(asked).encode())).json()
    assert told["valid"] == (told["code"] == "VALID")
    return str(told["code"])


def segment(state: State) -> str:
    return f"{state.bucket};scope={','.join(state.scopes)}" if state.scopes else state.bucket


async def at_forward_auth(validator: Validator, state: State) -> str:
    endpoint = ForwardAuth(validator, clients=GatewayClients(ADDRESSES, lambda: 0.0))

    async def from_the_gateway(scope: Any, receive: Any, send: Any) -> None:
        await endpoint({**scope, "client": (PROXY, 1)}, receive, send)

    headers = [(b"authorization", f"Bearer {state.secret}".encode())]
    if state.ip is not None:
        headers.append((b"x-real-ip", state.ip.encode()))
    answer = await call(from_the_gateway, "GET", f"/v1/forward-auth/{segment(state)}", headers=headers)
    assert (answer.headers["x-consumer-name"] != "") == (answer.status == 200)
    document = answer.json() if answer.body else None
    return code_of(answer.status, document, answer.headers.get("www-authenticate"), state.scopes)


async def at_ext_authz(validator: Validator, state: State) -> str:
    endpoint = ExtAuthz(ForwardAuth(validator, clients=GatewayClients(ADDRESSES, lambda: 0.0)))
    request = CheckRequest()
    request.attributes.context_extensions["bucket"] = segment(state)
    request.attributes.request.http.headers["authorization"] = f"Bearer {state.secret}"
    if state.ip is not None:
        request.attributes.source.address.socket_address.address = state.ip
    response = endpoint.check(request, peer=f"ipv4:{PROXY}:50000")
    if response.HasField("ok_response"):
        return "VALID"
    denied = response.denied_response
    told = {option.header.key: option.header.value for option in denied.headers}
    return code_of(denied.status.code, json.loads(denied.body), told.get("www-authenticate"), state.scopes)


async def at_policy(source: Source, state: State) -> str:
    """Through the policy, as the demand of a route, and of all routes."""
    headers = {"authorization": f"Bearer {state.secret}"}
    codes = set()
    for options, scopes in (({}, state.scopes), ({"scopes": state.scopes}, ())):
        policy = ApiKeyPolicy(source, bucket_name=state.bucket, **options)  # type: ignore[arg-type]
        for is_blocking in (True, False):
            ask = policy.check_blocking if is_blocking else policy.check
            checked: Any = ask(headers, scopes=scopes, address=state.ip)
            user, _, refusal = checked if is_blocking else await checked
            if refusal is None:
                assert user.has_scopes(*state.scopes)
                codes.add("VALID")
            else:
                told = dict(refusal.headers).get("www-authenticate")
                codes.add(code_of(refusal.status, json.loads(refusal.body), told, state.scopes))
                assert refusal.code in codes
    if isinstance(source, RemoteEdge):
        await source.close_async()
    (code,) = codes
    return code


ENDPOINTS = [at_validator, at_v1, at_v2, at_forward_auth, at_ext_authz, at_policy]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("filled") / "replica"
    replica = Replica.open(path, PEPPER_CHECK)
    records = [record for number, state in enumerate(STATES, 1) for record in state.records(number)]
    replica.load("dep_1", PEPPER_CHECK, at(4), sorted(records, key=_place))
    spend(counting(replica), STATES)
    replica.close()
    return path


@pytest.fixture(scope="module")
def validator(filled: Path) -> Iterator[Validator]:
    replica = Replica.open(filled, PEPPER_CHECK)
    yield counting(replica)
    replica.close()


def counting(replica: Replica) -> Validator:
    table = LimitTable(replica.path / LIMITS_DIRECTORY, Clock().elapsed)
    return Validator(replica, DIGESTER, clock=lambda: NOW, takers=Takers(table))


def spend(validator: Validator, states: Sequence[State]) -> None:
    """Use up the limits of those that are to be beyond them."""
    for state in states:
        if state.is_spent:
            for _ in range(3):
                validator.validate(state.secret, state.bucket, state.demand)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("ask", ENDPOINTS, ids=lambda ask: ask.__name__)
async def test_every_endpoint_gives_a_state_the_same_verdict(validator: Validator, ask: Any, state: State) -> None:
    # More than once: the first answers come from the disk, later ones perhaps from memory.
    for _ in range(5):
        assert await ask(validator, state) == state.code


@pytest.fixture(scope="module", params=["embedded", "shared", "remote"])
def source(request: pytest.FixtureRequest, filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    directory = tmp_path_factory.mktemp(request.param)
    shutil.copytree(filled, directory / "replica")
    if request.param == "remote":
        replica = Replica.open(directory / "replica", PEPPER_CHECK)
        with serving(through_asgi(new_app(counting(replica)))) as url:
            remote = RemoteEdge(url, timeout_seconds=60)
            yield remote
            remote.close()
        replica.close()
        return
    opened: EmbeddedReplica | SharedReplica
    if request.param == "embedded":
        opened = EmbeddedReplica(directory, lambda *_: ClosableFeed(start=4), pepper=PEPPER, ready_seconds=60)
    else:
        opened = SharedReplica(directory, pepper=PEPPER, ready_seconds=60)
    opened._clock = FakeClock(wall=NOW / 1000)
    opened._origin_clock = OriginClock(None, opened._clock)
    yield opened
    opened.close()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
async def test_every_source_of_the_policy_gives_it_that_verdict_too(source: Source, state: State) -> None:
    assert await at_policy(source, state) == state.code


_numbers = itertools.count(1)
NAMES = ["a", "a:b", "a:b:c", "a:c", "b", "*", "a:*", "a:b:*"]
NETWORKS = ["192.0.2.0/24", "192.0.2.7/32", "198.51.100.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"]
POWERS = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "scopes": st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
        "allowed_ips": st.lists(st.sampled_from(NETWORKS), unique=True, min_size=1, max_size=2),
        "rate_limits": st.lists(st.sampled_from([ONE, MANY, limited(2, "other")]), max_size=2).map(
            lambda said: list({limit.name: limit for each in said for limit in each["rate_limits"]}.values())
        ),
    },
)


def covers(granted: str, wanted: str) -> bool:
    """What the rule says, in the plainest words: the parts of the one are those with which the other begins."""
    if granted.endswith("*"):
        beginning = granted.split(":")[:-1]
        rest = wanted.split(":")
        return rest[: len(beginning)] == beginning and len(rest) > len(beginning)
    return granted == wanted


def judged(state: State) -> str:
    """The model: every rule read out in its order, with nothing compiled or kept."""
    if not (state.key.get("enabled", True) and state.consumer.get("enabled", True)):
        return "DISABLED"
    if state.expires_at is not None and state.expires_at <= NOW:
        return "EXPIRED"
    address = None if state.ip is None else ipaddress.ip_address(state.ip)
    for said in (state.key, state.consumer):
        allowed = [ipaddress.ip_network(text) for text in said.get("allowed_ips", ())]
        if allowed and (address is None or not any(address in network for network in allowed)):
            return "IP_NOT_ALLOWED"
    granted = state.consumer.get("scopes", (state.plan or {}).get("scopes", state.defaults))
    for wanted in state.scopes:
        for scopes in (granted, state.key.get("scopes", ["*"])):
            if not any(covers(scope, wanted) for scope in scopes):
                return "INSUFFICIENT_SCOPE"
    # Each is asked about three times before.
    of_plan = {} if state.plan is None else state.plan
    for limits in (state.key.get("rate_limits", ()), (of_plan | state.consumer).get("rate_limits", ())):
        if state.is_spent and any(limit.limit <= 3 for limit in limits):
            return "RATE_LIMITED"
    return "VALID"


@given(
    key=POWERS,
    consumer=POWERS,
    defaults=st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
    scopes=st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
    ip=st.sampled_from([None, HOME, AWAY, HOME6]),
    expires_at=st.sampled_from([None, None, NOW + 1, NOW]),
    plan=st.none() | POWERS.filter(lambda said: not said.keys() - {"scopes", "rate_limits"}),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_powers_come_to_what_a_plain_model_says_everywhere(replica: Replica, **said: Any) -> None:
    state = State("any", "", **said, is_spent=True)
    state = replace(state, code=judged(state))
    # A number that no state before had: limits are counted by it.
    number = next(_numbers)
    replica.load("dep_1", PEPPER_CHECK, at(1), state.records(number))
    validator = counting(replica)
    spend(validator, [state])
    assert {ask.__name__: await ask(validator, state) for ask in ENDPOINTS} == {
        ask.__name__: state.code for ask in ENDPOINTS
    }


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    opened = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    yield opened
    opened.close()


def test_the_table_itself_agrees_with_the_model() -> None:
    assert {state.name: judged(_as_read(state)) for state in STATES} == {state.name: state.code for state in STATES}


def _place(record: Change) -> tuple[bool, str]:
    """A plan comes before the consumers that have it."""
    return isinstance(record, ConsumerPut | KeyPut), type(record).__name__


def _as_read(state: State) -> State:
    """IPv4 that is written as IPv6 is read as IPv4."""
    return replace(state, ip=None if state.ip is None else str(parse_address(state.ip)))
