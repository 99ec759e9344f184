"""What a key did is counted by verdict and hour as it was judged, and a question that takes nothing is no use."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key, new_id
from keywright.domain import models
from keywright.domain.limits import RateLimit
from keywright.domain.networks import parse_address
from keywright.domain.powers import NO_DEMAND, Demand, decode_powers, encode_powers
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict
from keywright.edge.http.questions.question import parse_question
from keywright.edge.http.questions.validate_question import parse_v2
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.replica.replica import Replica
from keywright.edge.usage import counter as module
from keywright.edge.usage.counter import ROUTES_OF_BUCKET, Counts, UsageCounter, row_of
from keywright.edge.validator import Validator
from keywright.protocol.changes import BucketPut, ConsumerPut, PlanPut
from keywright.protocol.usage import HOUR_MILLIS, UsageRow
from support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "my-bucket"
GOOD, OLD, LIMITED, SCOPED = (f"zpka_{name}-and-long-enough" for name in ("good", "old", "limited", "scoped"))
START = 1_800_000_000_000
HOUR = START // HOUR_MILLIS


@dataclass
class World:
    clock: FakeClock
    counter: UsageCounter
    validator: Validator
    ids: dict[str, str]

    def ask(self, secret: str = GOOD, demand: Demand = NO_DEMAND, where: str = BUCKET) -> str:
        return str(self.validator.validate(secret, where, demand).verdict)

    def take(self) -> list[UsageRow]:
        return sorted(rows_of(self.counter.take(self.clock.millis())), key=str)


def rows_of(taken: list[Counts]) -> list[UsageRow]:
    return [row_of(one.hour, *each) for one in taken for of in (one.rows, one.ahead) for each in of.items()]


def totals(rows: list[UsageRow]) -> dict[tuple[str | None, str], int]:
    found: dict[tuple[str | None, str], int] = {}
    for row in rows:
        found[row.key_id, row.verdict] = found.get((row.key_id, row.verdict), 0) + row.total
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = FakeClock()
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    features = ("enabled", "scopes", "plan", "rateLimits")
    limits = encode_powers(rate_limits=[RateLimit("one", 1, 60)])
    scopes = encode_powers(scopes=["orders:read"], plan=7)
    plan = PlanPut(7, new_id(models.IdKind.PLAN), 1, "gold", encode_powers(scopes=["a"]))
    good, old = key(GOOD, 1, 1), key(OLD, 1, 1, expires_at=1)
    limited, scoped = key(LIMITED, 1, 2), key(SCOPED, 1, 3)
    owners = [consumer(1, 1, "one"), consumer(2, 1, "two"), consumer(3, 1, "three")]
    owners[1], owners[2] = with_powers(owners[1], limits), with_powers(owners[2], scopes)
    in_bucket = bucket(1, BUCKET)
    replica.load(
        "dep_1", PEPPER_CHECK, at(1), [with_features(in_bucket, features), plan, *owners, good, old, limited, scoped]
    )
    takers = Takers(LimitTable(tmp_path / "limits", clock.elapsed))
    counter = UsageCounter(lambda name: (found := replica.find_bucket(name)) and found.number)
    counter.take(clock.millis())
    validator = Validator(replica, DIGESTER, clock.millis, takers, counter)
    ids = {
        secret: put.key_id
        for secret, put in zip((GOOD, OLD, LIMITED, SCOPED), (good, old, limited, scoped), strict=True)
    }
    yield World(clock, counter, validator, ids)
    takers.table.close()
    replica.close()


def with_powers(put: ConsumerPut, powers: str | None) -> ConsumerPut:
    return replace(put, powers=powers)


def with_features(put: BucketPut, features: tuple[str, ...]) -> BucketPut:
    return replace(put, features=features)


def test_each_verdict_is_counted_by_its_key_and_that_on_no_key_by_bucket(world: World) -> None:
    assert [world.ask() for _ in range(3)] == ["VALID"] * 3
    assert [world.ask(OLD) for _ in range(2)] == ["EXPIRED"] * 2
    assert [world.ask(LIMITED) for _ in range(3)] == ["VALID", "RATE_LIMITED", "RATE_LIMITED"]
    assert world.ask("zpka_nobody-has-this-one") == "UNKNOWN"
    assert world.ask("\udcff is in no key at all") == "MALFORMED"
    ids = world.ids
    rows = world.take()
    assert totals(rows) == {
        (ids[GOOD], "VALID"): 3,
        (ids[OLD], "EXPIRED"): 2,
        (ids[LIMITED], "VALID"): 1,
        (ids[LIMITED], "RATE_LIMITED"): 2,
        (None, "UNKNOWN"): 1,
        (None, "MALFORMED"): 1,
    }
    assert {row.bucket_number for row in rows} == {1}
    assert {row.consumer_number for row in rows if row.key_id == ids[LIMITED]} == {2}
    assert world.take() == []


def test_peek_a_question_without_a_key_and_one_in_no_bucket_are_no_use(world: World) -> None:
    for secret in (GOOD, OLD, "zpka_nobody-has-this-one", "short"):
        world.ask(secret, Demand(is_peek=True))
    assert world.ask("") == "MALFORMED"
    assert world.ask(where="no-such-bucket") == "NO_BUCKET"
    assert world.validator.has_bucket(BUCKET)
    assert not world.validator.authorise(GOOD, BUCKET)
    assert world.take() == []


def test_plan_and_denied_scope_are_told_with_the_count(world: World) -> None:
    assert world.ask(SCOPED, Demand(("orders:read",))) == "VALID"
    assert world.ask(SCOPED, Demand(("orders:read", "orders:write", "x"))) == "INSUFFICIENT_SCOPE"
    found = {(row.verdict, row.plan, row.denied_scope) for row in world.take()}
    assert found == {("VALID", 7, None), ("INSUFFICIENT_SCOPE", 7, "orders:write")}


@pytest.mark.parametrize(
    "demand",
    [
        pytest.param(parse_question("my-bucket;route=orders").demand, id="a gateway's"),
        pytest.param(parse_v2(b'{"key":"k","route":"orders"}')[1], id="in a body"),
    ],
)
def test_route_that_a_question_names_is_told_with_the_count(world: World, demand: Demand) -> None:
    assert [world.ask(demand=demand), world.ask()] == ["VALID"] * 2
    assert {(row.route, row.total) for row in world.take()} == {("orders", 1), (None, 1)}


def test_at_most_eight_routes_of_a_bucket_are_told_apart(world: World, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[UsageRow] = []
    for part in (range(6), range(6, 12), range(20, 24)):
        for number in part:
            world.ask(demand=Demand(route=f"route-{number}"))
        # Also over the minutes in which counts are taken.
        rows += world.take()
    world.ask(demand=Demand(route="no route, it has spaces"))
    world.ask(demand=Demand(route="route-0"))
    totals = Counter[str | None]()
    for row in [*rows, *world.take()]:
        totals[row.route] += row.total
    told = {f"route-{number}": 1 for number in range(ROUTES_OF_BUCKET)}
    assert totals == {**told, "route-0": 2, "other": 9}
    # Said once, not for each question.
    assert [record.getMessage() for record in caplog.records] == [
        "questions about keys of my-bucket name more than 8 routes: those beyond count as other"
    ]
    world.clock.advance(3600)
    world.take()
    world.ask(demand=Demand(route="route-20"))
    assert {row.route for row in world.take()} == {"route-20"}


def test_hours_are_counted_apart_and_first_and_last_use_are_told(world: World) -> None:
    world.ask()
    world.clock.advance(1800)
    world.ask()
    world.ask()
    # Nobody has taken the counts when the hour turns.
    world.clock.advance(3600)
    world.ask()
    rows = sorted(world.take())
    assert [(row.hour, row.total) for row in rows] == [(HOUR, 1), (HOUR, 2), (HOUR + 1, 1)]
    offset = START - HOUR * HOUR_MILLIS
    assert {(row.first_ms, row.last_ms) for row in rows if row.hour == HOUR} == {
        (offset, offset),
        (offset + 1_800_000, offset + 1_800_000),
    }


def test_clock_that_goes_back_leaves_rows_within_their_hour(world: World) -> None:
    world.ask()
    world.ask()
    world.clock.wall -= 7200
    world.ask()
    world.clock.wall += 7200 - 60
    world.ask()
    rows = world.take()
    assert sum(row.total for row in rows) == 4
    assert all(0 <= row.first_ms <= row.last_ms < HOUR_MILLIS for row in rows)


def test_first_use_in_an_hour_goes_ahead_of_the_rest_once(world: World) -> None:
    assert not world.counter.has_ahead
    world.ask()
    assert world.counter.has_ahead
    [(hour, ahead)] = world.counter.take_ahead()
    assert (hour, [tally[0] for tally in ahead.values()]) == (HOUR, [1])
    world.ask()
    world.ask("zpka_nobody-has-this-one")
    assert not world.counter.has_ahead
    world.take()
    world.ask()
    assert not world.counter.has_ahead
    # A verdict that the key has not had in this hour is news, and so is the next hour.
    world.ask(OLD)
    assert world.counter.has_ahead
    world.clock.advance(3600)
    world.take()
    world.ask()
    assert world.counter.has_ahead


def test_more_keys_than_are_remembered_go_with_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEEN_KEPT", 1)
    world.ask()
    world.ask(LIMITED)
    [(_, ahead)] = world.counter.take_ahead()
    assert [tag.key_id for tag in ahead] == [world.ids[GOOD]]
    assert totals(world.take()) == {(world.ids[LIMITED], "VALID"): 1}


def test_what_finds_no_room_is_counted_as_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ask()
    world.ask()
    monkeypatch.setattr(module, "MOST_COUNTS", 1)
    monkeypatch.setattr(module, "SEEN_KEPT", 0)
    world.ask(LIMITED)
    world.ask()
    assert world.counter.missed == 1
    assert totals(world.take()) == {(world.ids[GOOD], "VALID"): 3}


def test_plan_that_changes_is_told_from_then_on(world: World) -> None:
    counted = world.counter
    key_record = KeyRecord("key_1", 9, None)
    for plan in (1, 1, 1, 2, 2):
        powers = decode_powers(f'{{"plan":{plan}}}')
        owner = ConsumerRecord("csmr_1", "one", b"{}", powers)
        counted.count(BUCKET, key_record, owner, Verdict.VALID, START, NO_DEMAND)
    plans: dict[int | None, int] = {}
    for row in world.take():
        plans[row.plan] = plans.get(row.plan, 0) + row.total
    assert plans == {1: 3, 2: 2}


def test_threads_lose_no_count_while_it_is_taken(world: World) -> None:
    rounds, threads = 4000, 4
    taken: list[Counts] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def ask() -> None:
        for _ in range(rounds):
            world.ask()

    running = [threading.Thread(target=ask) for _ in range(threads)]
    try:
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running):
            taken += world.counter.take(world.clock.millis())
            for thread in running:
                thread.join(0.005)
    finally:
        sys.setswitchinterval(before)
    taken += world.counter.take(world.clock.millis())
    # Read when nobody adds any more, as the sealer does a second later.
    assert totals(rows_of(taken)) == {(world.ids[GOOD], "VALID"): rounds * threads}


def test_networks_are_counted_where_the_bucket_wishes_it_and_nowhere_else(world: World) -> None:
    here, there = parse_address("192.0.2.77"), parse_address("2001:db8:1:2::3")
    good = world.ids[GOOD]
    for recording in ((), (2,), (1,)):
        world.counter.recording = frozenset(recording)
        world.take()
        for address in (here, here, lambda: there, None):
            assert world.ask(demand=Demand(address=address)) == "VALID"
        world.ask()
        world.ask(OLD, Demand(address=here))
        told = Counter[tuple[str | None, str, str | None]]()
        for row in world.take():
            told[row.key_id, row.verdict, row.address] += row.total
        if recording == (1,):
            assert told == {
                (good, "VALID", "192.0.2.0/24"): 2,
                (good, "VALID", "2001:db8:1::/48"): 1,
                (good, "VALID", None): 2,
                (world.ids[OLD], "EXPIRED", "192.0.2.0/24"): 1,
            }
        else:
            assert sum(told.values()) == 6
            assert {address for _, _, address in told} == {None}


def test_nobody_asks_for_an_address_that_nobody_wishes(world: World) -> None:
    asked = []
    world.take()
    for _ in range(3):
        world.ask(demand=Demand(address=lambda: asked.append(1)))
    assert asked == []


def test_more_networks_of_a_key_than_are_told_apart_count_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NETWORKS_OF_KEY", 3)
    world.counter.recording = frozenset({1})
    world.take()
    for number in range(6):
        world.ask(demand=Demand(address=parse_address(f"10.0.{number}.1")))
    told = Counter[str | None]()
    for row in world.take():
        told[row.address] += row.total
    assert told == {"10.0.0.0/24": 1, "10.0.1.0/24": 1, "10.0.2.0/24": 1, "other": 3}
