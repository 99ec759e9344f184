"""Limits behind the validator: whose they are, what they take, and that nothing is good that could not be counted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key, new_id
from keywright.domain import models
from keywright.domain.limit_states import LimitState
from keywright.domain.limits import LimitScope, Period, Quota, RateLimit
from keywright.domain.powers import NO_DEMAND, Demand, encode_powers
from keywright.domain.verdict import Lack, Verdict
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.limits.gcra import TICKS_PER_SECOND
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Taken, Takers
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.protocol.changes import Change, PlanPut
from support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from keywright.domain.verdict import ConsumerRecord, KeyRecord

BUCKET = "my-bucket"
KEYS = ["zpka_first-and-long-enough", "zpka_second-and-long-enough"]
FEATURES = ("enabled", "plan", "rateLimits", "quotas")
PEEK = Demand(is_peek=True)


@dataclass
class World:
    replica: Replica
    clock: FakeClock
    takers: Takers
    validator: Validator
    revision: int = 1

    def load(self, *changes: Change) -> None:
        self.revision += 1
        self.replica.load("dep_1", PEPPER_CHECK, at(self.revision), changes)

    def ask(self, secret: str = KEYS[0], demand: Demand = NO_DEMAND) -> str:
        return str(self.validator.validate(secret, BUCKET, demand).verdict)

    def good(self, secret: str = KEYS[0]) -> int:
        """How often in a row the key is good."""
        return sum(1 for _ in itertools.takewhile(lambda _: self.ask(secret) == "VALID", range(1000)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = FakeClock()
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    takers = Takers(LimitTable(tmp_path / "limits", clock.elapsed))
    yield World(replica, clock, takers, Validator(replica, DIGESTER, lambda: NOW, takers))
    takers.table.close()
    replica.close()


def records(
    plan: Any = None, of_consumer: Any = None, of_keys: Sequence[Any] = (None, None), number: int = 1, **more: Any
) -> list[Change]:
    """A bucket with a consumer of two keys, each with these rate limits, None for none said."""
    said = dict(more)
    plans: list[Change] = []
    if plan is not None:
        plans.append(PlanPut(7, new_id(models.IdKind.PLAN), 1, "gold", encode_powers(rate_limits=plan)))
        said["plan"] = 7
    return [
        replace(bucket(1, BUCKET), features=FEATURES),
        *plans,
        replace(consumer(number, 1), powers=encode_powers(rate_limits=of_consumer, **said)),
        *(
            replace(key(secret, 1, number), powers=encode_powers(rate_limits=limits))
            for secret, limits in zip(KEYS, of_keys, strict=True)
        ),
    ]


def test_a_consumers_limit_is_shared_by_its_keys_and_a_keys_is_its_own(world: World) -> None:
    world.load(*records(of_consumer=[RateLimit("burst", 5, 60)], of_keys=[[RateLimit("burst", 3, 60)], None]))
    assert world.good(KEYS[0]) == 3
    assert world.good(KEYS[1]) == 2


def test_limits_of_another_name_stand_beside_each_other(world: World) -> None:
    world.load(*records(plan=[RateLimit("burst", 5, 1), RateLimit("daily", 8, 86_400)]))
    assert world.good() == 5
    world.clock.advance(1)
    assert world.good() == 3
    found = world.validator.validate(KEYS[0], BUCKET)
    assert [limit.name for limit in found.limits if limit.is_violated] == ["daily"]
    assert [(limit.remaining, limit.reset_seconds) for limit in found.limits] == [(2, 1), (0, 10_799)]


def test_a_change_of_plan_goes_on_with_what_was_counted(world: World) -> None:
    world.load(*records(plan=[RateLimit("burst", 5, 3600)]))
    assert world.good() == 5
    world.load(*records(plan=[RateLimit("burst", 9, 3600)]))
    assert world.good() == 4
    world.load(*records(of_consumer=[RateLimit("burst", 10, 60)]))
    assert world.good() == 1
    world.load(*records(plan=[RateLimit("other", 2, 60)]))
    assert world.good() == 2


def test_a_key_that_is_refused_for_another_reason_takes_nothing(world: World) -> None:
    limit = [RateLimit("burst", 2, 60)]
    world.load(*records(of_consumer=limit, enabled=False))
    assert [world.ask() for _ in range(5)] == ["DISABLED"] * 5
    world.load(*records(of_consumer=limit))
    assert [world.ask(demand=Demand(("orders:read",))) for _ in range(5)] == ["INSUFFICIENT_SCOPE"] * 5
    assert [world.ask("zpka_nobody-has-this-one") for _ in range(5)] == ["UNKNOWN"] * 5
    assert world.good() == 2


def test_a_peek_takes_nothing_and_a_cost_is_none_of_a_rate_limits_business(world: World) -> None:
    world.load(*records(of_consumer=[RateLimit("burst", 2, 60)]))
    assert [world.ask(demand=PEEK) for _ in range(5)] == ["VALID"] * 5
    assert world.ask(demand=Demand(cost=1_000_000)) == "VALID"
    assert world.good() == 1
    assert world.ask(demand=PEEK) == "RATE_LIMITED"


def test_who_has_no_limits_touches_no_table(world: World, tmp_path: Path) -> None:
    world.load(*records(of_consumer=[], of_keys=[[], None]))
    assert [world.ask(secret) for secret in KEYS] == ["VALID", "VALID"]
    assert not (tmp_path / "limits").exists()


def test_what_can_not_be_counted_has_no_answer(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "limits").write_text("in the way")
    world.load(*records(of_keys=[[RateLimit("burst", 5, 60)], None]))
    assert [world.ask(), world.ask(), world.ask(KEYS[1])] == ["UNAVAILABLE", "UNAVAILABLE", "VALID"]
    told = [record.getMessage() for record in caplog.records if "can't be counted" in record.getMessage()]
    assert len(told) == 1
    (tmp_path / "limits").unlink()
    assert world.ask() == "VALID"


def test_a_validator_that_counts_nothing_answers_for_no_limited_key(world: World) -> None:
    world.load(*records(of_keys=[[RateLimit("burst", 5, 60)], None]))
    uncounting = Validator(world.replica, DIGESTER, lambda: NOW)
    assert [str(uncounting.validate(secret, BUCKET).verdict) for secret in KEYS] == ["UNAVAILABLE", "VALID"]


async def test_each_endpoint_says_it_its_own_way_and_counts_it(world: World) -> None:
    world.load(*records(of_consumer=[RateLimit("burst", 1, 60)]))
    v1, v2 = ValidateApi(world.validator), ValidateApi(world.validator, is_v2=True)
    forward_auth = ForwardAuth(world.validator)
    body = b'{"key":"%b"}' % KEYS[0].encode()
    told = await call(v2, "POST", "/v2/validate/my-bucket", body=body)
    burst = {"name": "burst", "limit": 1, "windowSeconds": 60, "remaining": 0, "resetSeconds": 60}
    assert (told.status, told.json()["valid"], told.json()["limits"]) == (200, True, [burst])
    assert (await call(v1, "POST", "/v1/validate/my-bucket", body=body)).json() == {
        "valid": False,
        "code": "RATE_LIMITED",
    }
    assert (await call(v2, "POST", "/v2/validate/my-bucket", body=body)).json() == {
        "valid": False,
        "code": "RATE_LIMITED",
        "limits": [burst],
        "violated": ["burst"],
        "retryAfterSeconds": 60,
    }
    headers = [(b"authorization", b"Bearer " + KEYS[0].encode())]
    refused = await call(forward_auth, "GET", "/v1/forward-auth/my-bucket", headers=headers)
    assert (refused.status, refused.headers["retry-after"]) == (429, "60")
    assert refused.headers["x-consumer-name"] == ""
    for endpoint in (v1, v2, forward_auth):
        assert endpoint.counts.refused == {(BUCKET, "RATE_LIMITED"): 1}


# -- the seam for quotas ----------------------------------------------------------------------------------------------


class Lent:
    """A quota as the simplest there is."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.asked = 0

    def take(self, key: KeyRecord, consumer: ConsumerRecord, demand: Demand, *, overspends: bool = False) -> Taken:
        self.asked += 1
        cost = demand.cost or 1
        fits = cost <= self.units
        if fits and not demand.is_peek:
            self.units -= cost
        state = LimitState("total", 10, None, self.units, 0, not fits, None)
        return Taken(Verdict.VALID if fits else Verdict.QUOTA_EXCEEDED, (state,))

    def has_changed(self, lack: Lack) -> bool:
        raise AssertionError(lack)

    def close(self) -> None: ...


QUOTA = [Quota("total", 10, Period.NONE)]


def test_a_key_with_a_quota_has_no_answer_where_nobody_counts_quotas(world: World) -> None:
    world.load(*records(quotas=QUOTA))
    assert world.ask() == "UNAVAILABLE"


def test_limits_and_quotas_are_all_taken_or_none(world: World) -> None:
    lent = world.takers.quotas = Lent(3)
    world.load(*records(of_consumer=[RateLimit("burst", 4, 60)], quotas=QUOTA))
    assert world.ask(demand=Demand(cost=4)) == "QUOTA_EXCEEDED"
    found = world.validator.validate(KEYS[0], BUCKET, Demand(cost=2))
    assert [(limit.name, limit.remaining) for limit in found.limits] == [("burst", 3), ("total", 1)]
    assert [world.ask(demand=Demand(cost=2)) for _ in range(3)] == ["QUOTA_EXCEEDED"] * 3
    lent.units = 100
    assert world.good() == 3
    assert (lent.units, world.ask()) == (97, "RATE_LIMITED")
    asked = lent.asked
    assert world.ask() == "RATE_LIMITED"
    assert lent.asked == asked
    refused = world.validator.validate(KEYS[0], BUCKET)
    assert [limit.name for limit in refused.limits if limit.is_violated] == ["burst"]


def test_a_quota_alone_is_asked_too(world: World) -> None:
    world.takers.quotas = Lent(2)
    world.load(*records(quotas=QUOTA))
    assert [world.ask(demand=PEEK) for _ in range(3)] == ["VALID"] * 3
    assert [world.ask() for _ in range(3)] == ["VALID", "VALID", "QUOTA_EXCEEDED"]


# -- against a plain model --------------------------------------------------------------------------------------------

limits = st.lists(
    st.builds(
        RateLimit, st.sampled_from("abc"), st.integers(1, 4), st.sampled_from([1, 2, 7]), st.sampled_from(LimitScope)
    ),
    max_size=3,
    unique_by=lambda limit: limit.name,
)
# Binary fractions: their sums are exact, and so whole ticks.
steps = st.tuples(st.sampled_from([0, 0, 0, 0.125, 0.5, 1.0, 3.0]), st.sampled_from([0, 1]), st.booleans())
_numbers = itertools.count(1)


@given(
    plan=st.none() | limits,
    of_consumer=st.none() | limits,
    of_keys=st.tuples(st.none() | limits, st.none() | limits),
    asked=st.lists(steps, max_size=30),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_limits_let_through_what_a_plain_model_does(
    world: World, plan: Any, of_consumer: Any, of_keys: Any, asked: list[tuple[float, int, bool]]
) -> None:
    # A number that no example before had: it is by that that a consumer's limits are counted.
    number = next(_numbers)
    world.load(*records(plan, of_consumer, of_keys, number))
    shared = plan if of_consumer is None else of_consumer
    levels: dict[tuple[object, RateLimit], Fraction] = {}
    for wait, which, is_peek in asked:
        world.clock.advance(wait)
        holding = [("all", limit) for limit in shared or ()] + [(which, limit) for limit in of_keys[which] or ()]
        for (which_of, limit), level in levels.items():
            given_back = Fraction(round(wait * TICKS_PER_SECOND) * limit.limit, limit.window_seconds * TICKS_PER_SECOND)
            levels[which_of, limit] = max(level - given_back, Fraction(0))
        fits = all(levels.get(place, 0) + 1 <= place[1].limit for place in holding)
        found = world.validator.validate(KEYS[which], BUCKET, Demand(is_peek=is_peek))
        assert str(found.verdict) == ("VALID" if fits else "RATE_LIMITED")
        if fits and not is_peek:
            for place in holding:
                levels[place] = levels.get(place, Fraction(0)) + 1
        assert [limit.remaining for limit in found.limits] == [
            int(place[1].limit - levels.get(place, 0)) for place in holding
        ]
