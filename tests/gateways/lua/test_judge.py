"""Whatever a replica holds, Lua comes to the verdict that Python comes to, or asks the edge: never to another one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from endpoints import table
from gateways.lua.machine import LuaMachine, quote
from keywright.domain.keyformat import generate, is_possible
from keywright.domain.networks import parse_address
from keywright.domain.powers import Demand
from keywright.edge.replica.freshness import find_boot_id
from keywright.edge.replica.replica import Replica
from keywright.edge.state_page import FILE, StatePage
from keywright.edge.validator import Validator
from keywright.protocol.changes import PlanPut
from keywright.runtime.clock import Clock

PEPPER = base64.b64encode(b"pepper of the tests, 32 bytes ok").decode()
SECRET, BUCKET = table.VALID, "my-bucket"
HOUR = 3600_000
SCOPES = ["orders:read", "orders:write", "orders:*", "orders", "a:b:c", "a:*", "*"]
NETWORKS = [
    "192.0.2.0/24", "192.0.2.7", "192.0.2.128/25", "0.0.0.0/0", "10.0.0.0/9", "2001:db8::/33", "2001:db8::1", "::/0",
    # No networks: the key can't be judged.
    "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/255.255.255.0", "::ffff:192.0.2.7", "fe80::1%eth0", "192.0.02.7", "x",
    "", "192.0.2.0/", "192.0.2.0/024", "192.0.2.0/+24",
]  # fmt: skip
ADDRESSES = [
    None, "192.0.2.7", "192.0.2.200", "::ffff:192.0.2.7", "10.127.255.255", "10.128.0.0", "2001:db8::1",
    "2001:db8:8000::1", "203.0.113.9", "192.0.2.7:80", "192.0.2.07", "[::1]", "x", "", "192.0.2.7\0", "1.2.3",
]  # fmt: skip
LIMIT = {"name": "calls", "limit": 5, "windowSeconds": 60, "scope": "global"}
JUNK: list[Any] = [None, True, 0, 1.5, "x", [], {}, [1], [None]]

some_scopes = st.lists(st.sampled_from(SCOPES), max_size=3)
good_powers = {
    "enabled": st.booleans(),
    "scopes": some_scopes,
    "allowedIps": st.lists(st.sampled_from(NETWORKS[:8]), max_size=3),
    "rateLimits": st.sampled_from([[], [], [LIMIT]]),
}
odd_powers = {
    **{name: st.sampled_from(JUNK) for name in ("enabled", "scopes", "allowedIps", "plan", "rateLimits")},
    "allowedIps": st.lists(st.sampled_from(NETWORKS), max_size=2),
    "recipes": st.just([]),
}
of_keys = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={**good_powers, "metadata": st.just({"é": [1, {"x": None}]})}).map(json.dumps),
    st.fixed_dictionaries({}, optional=good_powers).map(json.dumps),
    st.fixed_dictionaries({}, optional=odd_powers).map(json.dumps),
    st.sampled_from(["{", "[]", "null", "1", "", '{"enabled":false,"enabled":true}', '{"enabled": tru}', " {} "]),
)
of_consumers = st.one_of(
    of_keys,
    st.fixed_dictionaries({"plan": st.sampled_from([1, 2, 3])}, optional=good_powers).map(json.dumps),
)
plans = st.none() | st.fixed_dictionaries({}, optional={n: good_powers[n] for n in ("scopes", "rateLimits")}).map(
    json.dumps
)


@dataclass(frozen=True)
class World:
    """What a replica holds of one key, and what is asked about it."""

    key: str | None
    consumer: str | None
    plan: str | None
    defaults: tuple[str, ...]
    features: tuple[str, ...]
    expires_in: int | None
    consumer_bucket: int
    demanded: list[str]
    address: str | None


worlds = st.builds(
    World, of_keys, of_consumers, plans, st.lists(st.sampled_from(SCOPES), unique=True, max_size=2).map(tuple),
    st.sampled_from([("scopes",), ("scopes",), ("scopes",), ("scopes", "recipes"), ()]),
    st.sampled_from([None, None, HOUR, -1, 0]), st.sampled_from([1, 1, 1, 1, 2]),
    st.lists(st.sampled_from(SCOPES), unique=True, max_size=2), st.sampled_from(ADDRESSES),
)  # fmt: skip


def new_judge(name: str, path: Path) -> str:
    """The Lua that makes a judge of this name, of the replica there."""
    return f'{name} = require("keywright.judge").new({quote(str(path))}, require("keywright.digest").new("{PEPPER}"))'


class Judges:
    """Python's and Lua's, on one replica."""

    def __init__(self, directory: Path, lua: LuaMachine) -> None:
        self.path = directory / "replica"
        self.replica = Replica.open(self.path, PEPPER_CHECK)
        # Python takes a record that is no JSON for a broken file, and has everybody let go of it.
        self.replica.mark_corrupt = lambda: None  # type: ignore[method-assign]
        self.python = Validator(self.replica, DIGESTER, clock=lambda: NOW)
        self.lua = lua
        self.page = StatePage(self.path / FILE, find_boot_id())
        self.set_time()
        lua.run(new_judge("judge", self.path))

    def set_time(self) -> None:
        now = Clock().elapsed()
        self.page.put_in_step(now)
        self.page.put_clock(NOW - now * 1000, None)
        self.page.put_lease(None, None, self.path / "lease.json")

    def ask_lua(self, secret: str, name: str, demanded: list[str], address: str | None) -> tuple[str, str]:
        """The verdict, and the consumer's name or why the edge is to be asked."""
        scopes = ",".join(map(quote, demanded))
        told = "nil" if address is None else quote(address)
        found = self.lua.run(
            f"local v, k = judge:validate({quote(name)}, {quote(secret)}, {{{scopes}}}, "
            f"function() return {told} end); "
            "return v .. ' ' .. tostring(type(k) == 'table' and k.consumer or k)"
        ).decode()
        verdict, _, rest = found.partition(" ")
        return verdict, rest

    def ask_python(self, secret: str, name: str, demanded: list[str], address: str | None) -> tuple[str, str]:
        demand = Demand(tuple(demanded), None if address is None else parse_address(address))
        result = self.python.validate(secret, name, demand)
        return str(result.verdict), result.consumer.name if result.consumer else "nil"


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judges]:
    with LuaMachine() as lua:
        made = Judges(tmp_path_factory.mktemp("judge"), lua)
        yield made
        made.replica.close()


def has_limits(text: str | None) -> bool:
    return text is not None and '"rateLimits": [' in text and '"rateLimits": []' not in text


def hold(judges: Judges, world: World) -> None:
    asked = replace(bucket(1, BUCKET), default_scopes=world.defaults, features=world.features)
    end = None if world.expires_in is None else NOW + world.expires_in
    judges.replica.load(
        "dep_1", PEPPER_CHECK, at(5),
        [
            asked,
            bucket(2, "other-bucket"),
            *([] if world.plan is None else [PlanPut(1, "plan_1", 1, "gold", world.plan)]),
            PlanPut(2, "plan_2", 1, "free", None),
            replace(consumer(1, world.consumer_bucket), powers=world.consumer),
            replace(key(SECRET, 1, 1, end), powers=world.key),
        ],
    )  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds)
@example(world=World('{"rateLimits": [1]}', None, None, (), ("scopes",), -1, 1, [], None))
@example(world=World(None, '{"plan": 1, "rateLimits": []}', '{"rateLimits": [1]}', (), ("scopes",), None, 1, [], None))
def test_lua_says_what_python_says_or_asks(judges: Judges, world: World) -> None:
    hold(judges, world)
    question = (SECRET, BUCKET, world.demanded, world.address)
    expected, found = judges.ask_python(*question), judges.ask_lua(*question)
    if expected[0] == "UNAVAILABLE":
        # Limits, that nobody counts here, and what is not known: the edge is asked, and says so or knows more.
        assert found[0] == "ASK"
    elif found == ("ASK", "there are limits"):
        # Whatever else is said: what is in them is not read here.
        assert any(has_limits(text) for text in (world.key, world.consumer, world.plan))
    else:
        assert found == expected


def _generated(prefix: str) -> str:
    return generate(prefix, lambda count: b"\x11" * count).reveal()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=st.one_of(
        st.text(max_size=20),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=12),
        st.text("x", min_size=505, max_size=520),
        st.from_regex(r"[a-z][a-z0-9_]{0,26}_[0-9a-f]{31,33}_[0-9a-f]{7,9}", fullmatch=True),
        st.from_regex(r"[a-z](_?[a-z0-9]){1,25}", fullmatch=True).map(_generated),
        st.from_regex(r"[a-z_][a-z0-9_]{1,25}", fullmatch=True).map(lambda prefix: _generated(prefix)[:-1] + "0"),
        st.sampled_from([table.VALID, table.BAD_CHECKSUM, table.NEVER_MADE, table.VALID + "\n", table.VALID + "\0"]),
    )
)
def test_the_form_of_a_text_is_judged_alike(judges: Judges, secret: str) -> None:
    possible = judges.lua.run(f"return tostring(require('keywright.judge').is_possible({quote(secret)}))").decode()
    assert possible == str(is_possible(secret)).lower()


def test_every_row_of_the_table_is_judged_alike_also_after_changes(tmp_path: Path) -> None:
    with LuaMachine() as lua:
        judges = Judges(tmp_path, lua)
        assert judges.ask_lua(SECRET, BUCKET, [], None)[0] == "ASK", "there is no snapshot yet"
        table.fill(judges.replica, still=HOUR)
        for row in table.ROWS:
            if row.headers is None:
                verdict, consumer_name = judges.ask_lua(row.secret, row.bucket, [], None)
                assert verdict == row.expected.code, row.name
                assert verdict != "VALID" or consumer_name == row.expected.consumer
        # From the very next look-up on.
        judges.replica.apply(batch(4, [key(SECRET, 1, 1, NOW - 1)]))
        assert judges.ask_lua(SECRET, BUCKET, [], None)[0] == "EXPIRED"
        judges.replica.close()
