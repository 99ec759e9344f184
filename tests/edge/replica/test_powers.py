"""Records with powers: where they stand, what a look-up gives, and that a reader of format 2 never finds such a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from keywright.domain.limits import RateLimit
from keywright.domain.networks import parse_address
from keywright.domain.powers import Demand, encode_powers
from keywright.domain.verdict import Verdict
from keywright.edge.limits.table import LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.replica import records
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    KeyDelete,
    KeyPut,
    PlanDelete,
    PlanPut,
)
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

from dataclasses import replace

S = "zpka_secret-1"
DISABLED = encode_powers(enabled=False)
BUCKET = bucket(1, "my-bucket")
POWERED = replace(BUCKET, features=("enabled", "scopes", "allowedIps"))
OWNER = consumer(1, 1)
KEY = key(S, 1, 1)
RATE = RateLimit("burst", 100, 60)


def new_validator(replica: Replica) -> Validator:
    takers = Takers(LimitTable(replica.path / "limits", Clock().elapsed))
    return Validator(replica, DIGESTER, lambda: NOW, takers)


def load(replica: Replica, *changes: Change) -> Validator:
    replica.load("dep_1", PEPPER_CHECK, at(5), changes)
    return new_validator(replica)


def verdict(validator: Validator, *scopes: str, ip: str | None = None) -> Verdict:
    demand = Demand(scopes, None if ip is None else parse_address(ip))
    return validator.validate(S, "my-bucket", demand).verdict


def test_powers_of_a_key_and_of_its_consumer_are_judged(replica: Replica) -> None:
    validator = load(
        replica,
        POWERED,
        replace(OWNER, powers=encode_powers(scopes=["orders:*", "a"])),
        replace(KEY, powers=encode_powers(scopes=["orders:read", "b"], allowed_ips=["192.0.2.0/24"])),
    )
    assert verdict(validator, ip="192.0.2.9") is Verdict.VALID
    assert verdict(validator) is verdict(validator, ip="198.51.100.1") is Verdict.IP_NOT_ALLOWED
    assert verdict(validator, "orders:read", ip="192.0.2.9") is Verdict.VALID
    # The key's own alone, the consumer's alone.
    assert verdict(validator, "b", ip="192.0.2.9") is verdict(validator, "a", ip="192.0.2.9")
    assert verdict(validator, "b", ip="192.0.2.9") is Verdict.INSUFFICIENT_SCOPE


def test_a_bucket_grants_what_its_consumers_are_not_said_to_have(replica: Replica) -> None:
    validator = load(replica, replace(BUCKET, default_scopes=("a",)), OWNER, KEY)
    assert (verdict(validator, "a"), verdict(validator, "b")) == (Verdict.VALID, Verdict.INSUFFICIENT_SCOPE)
    replica.apply(batch(5, [replace(BUCKET, default_scopes=())]))
    assert verdict(validator, "a") is Verdict.INSUFFICIENT_SCOPE
    assert verdict(validator) is Verdict.VALID


GOLD = PlanPut(3, "plan_0123456789abcdefghijABCD", 1, "gold", encode_powers(scopes=["a"], rate_limits=[RATE]))
ON_GOLD = replace(OWNER, powers=encode_powers(plan=3))
WITH_PLANS = replace(BUCKET, features=("plan", "rateLimits", "scopes"), default_scopes=("b",))


def test_a_plan_gives_its_consumers_what_is_not_said_of_them_and_changes_for_all_of_them_at_once(
    replica: Replica,
) -> None:
    validator = load(replica, WITH_PLANS, GOLD, ON_GOLD, KEY)
    assert (verdict(validator, "a"), verdict(validator, "b")) == (Verdict.VALID, Verdict.INSUFFICIENT_SCOPE)
    replica.apply(batch(5, [replace(GOLD, powers=encode_powers(scopes=["c"]))]))
    assert (verdict(validator, "a"), verdict(validator, "c")) == (Verdict.INSUFFICIENT_SCOPE, Verdict.VALID)
    # A plan that says nothing of scopes leaves them to the bucket; what is said of the consumer itself comes first.
    replica.apply(batch(6, [replace(GOLD, powers=None)]))
    assert (verdict(validator, "b"), verdict(validator, "c")) == (Verdict.VALID, Verdict.INSUFFICIENT_SCOPE)
    replica.apply(batch(7, [replace(OWNER, powers=encode_powers(plan=3, scopes=[])), GOLD]))
    assert verdict(validator, "a") is verdict(validator, "b") is Verdict.INSUFFICIENT_SCOPE


def test_what_a_plan_limits_is_told_with_the_consumer(replica: Replica) -> None:
    validator = load(replica, WITH_PLANS, GOLD, ON_GOLD, KEY)
    found = replica.find("my-bucket", KEY.digest)
    assert found is not None
    assert found[1] is not None
    assert found[1].powers is not None
    assert found[1].powers.rate_limits == (RATE,)
    assert verdict(validator) is Verdict.VALID


@pytest.mark.parametrize(
    "change",
    [PlanDelete(3, 1), replace(ON_GOLD, powers=encode_powers(plan=4)), replace(GOLD, powers='{"moonPhase":"full"}')],
    ids=["deleted", "another", "unknown"],
)
def test_nobody_judges_by_a_plan_that_is_not_here_or_not_known(replica: Replica, change: Change) -> None:
    elsewhere = replace(GOLD, number=4, bucket_number=2)
    validator = load(replica, WITH_PLANS, bucket(2, "another"), GOLD, elsewhere, ON_GOLD, KEY)
    assert verdict(validator) is Verdict.VALID
    replica.apply(batch(5, [change]))
    assert verdict(validator) is Verdict.UNAVAILABLE


def test_plans_end_with_their_bucket_and_no_others(replica: Replica) -> None:
    elsewhere = replace(GOLD, number=4, bucket_number=2)
    load(replica, WITH_PLANS, bucket(2, "another"), GOLD, replace(GOLD, number=5), elsewhere)
    assert replica.plans() == [GOLD, replace(GOLD, number=5), elsewhere]
    replica.apply(batch(5, [BucketDelete(1)]))
    assert replica.plans() == [elsewhere]
    assert elsewhere in replica.records()


def test_a_key_without_any_scopes_is_good_for_none(replica: Replica) -> None:
    validator = load(replica, BUCKET, OWNER, KEY)
    assert (verdict(validator), verdict(validator, "a")) == (Verdict.VALID, Verdict.INSUFFICIENT_SCOPE)


@pytest.mark.parametrize("who", ["key", "consumer"])
def test_what_is_switched_off_is_refused_until_it_is_switched_on(replica: Replica, who: str) -> None:
    validator = load(replica, POWERED, OWNER, KEY)
    plain = KEY if who == "key" else OWNER
    for revision, put, expected in (
        (5, replace(plain, powers=DISABLED), Verdict.DISABLED),
        (6, plain, Verdict.VALID),
        (7, replace(plain, powers=DISABLED), Verdict.DISABLED),
        (8, KeyDelete(KEY.digest, 1) if who == "key" else ConsumerDelete(1), Verdict.UNKNOWN),
        (9, plain, Verdict.VALID),
    ):
        replica.apply(batch(revision, [put]))
        assert verdict(validator) is expected


def test_a_power_of_a_later_version_makes_the_key_one_that_nobody_here_can_judge(replica: Replica) -> None:
    validator = load(replica, POWERED, OWNER, replace(KEY, powers='{"moonPhase":"full"}'))
    assert verdict(validator) is Verdict.UNAVAILABLE
    assert validator.validate("zpka_secret-2", "my-bucket").verdict is Verdict.UNKNOWN
    replica.apply(batch(5, [KEY, replace(BUCKET, features=("moonPhase",))]))
    assert verdict(validator) is Verdict.UNAVAILABLE


def test_a_replica_has_the_format_of_before_until_something_needs_the_new_one(replica: Replica) -> None:
    def kept_format() -> Any:
        with replica._files.read() as tx:
            return tx.get(b"format", db=replica._files.meta)

    load(replica, BUCKET, OWNER, KEY)
    assert kept_format() == b"2"
    replica.apply(batch(5, [POWERED]))
    assert kept_format() == b"3"
    load(replica, BUCKET, OWNER, KEY)
    assert kept_format() == b"2"


def test_powers_survive_a_restart_and_are_told_as_they_were(tmp_path: Path) -> None:
    changes = [POWERED, replace(OWNER, powers=DISABLED), KEY, replace(key("zpka_secret-2", 1, 1), powers=DISABLED)]
    replica = Replica.open(tmp_path, PEPPER_CHECK)
    load(replica, *changes)
    replica.close()
    again = Replica.open(tmp_path, PEPPER_CHECK)
    features = replace(POWERED, features=tuple(sorted(POWERED.features)))
    assert again.records() == [features, changes[1], KEY, changes[3]]
    assert verdict(new_validator(again)) is Verdict.DISABLED
    again.close()


def find_as_format_2_does(replica: Replica, digest: bytes) -> bool:
    """What a reader of before makes of it: two databases, and no more."""
    files = replica._files
    name = records.pack_bucket_number(1) + digest
    with files.read() as tx:
        value = tx.get(name, db=files.keys)
        return value is not None and tx.get(value[:8], db=files.consumers) is not None


@given(
    st.lists(
        st.tuples(st.sampled_from(["key", "consumer"]), st.sampled_from(["plain", "powers", "delete"])), max_size=8
    )
)
@settings(deadline=None)
def test_a_reader_of_format_2_finds_a_key_only_where_nothing_of_it_has_powers(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    replica = Replica.open(tmp_path_factory.mktemp("replica"), PEPPER_CHECK)
    validator = load(replica, POWERED, OWNER, KEY)
    state = {"key": "plain", "consumer": "plain"}
    for number, (who, what) in enumerate(steps):
        put: Change = KEY if who == "key" else OWNER
        if what == "powers":
            put = replace(put, powers=DISABLED)  # type: ignore[call-arg, type-var]
        elif what == "delete":
            put = KeyDelete(KEY.digest, 1) if who == "key" else ConsumerDelete(1)
        replica.apply(batch(5 + number, [put]))
        state[who] = what
        assert find_as_format_2_does(replica, KEY.digest) is (set(state.values()) == {"plain"})
        expected = Verdict.UNKNOWN if "delete" in state.values() else Verdict.DISABLED
        assert verdict(validator) is (Verdict.VALID if set(state.values()) == {"plain"} else expected)
    replica.close()


def test_a_sweep_takes_what_had_powers_too(replica: Replica) -> None:
    other = consumer(2, 1)
    owned: list[KeyPut] = [replace(key(f"zpka_secret-{n}", 1, 2), powers=DISABLED) for n in range(5)]
    load(replica, POWERED, OWNER, replace(other, powers=DISABLED), KEY, *owned)
    replica.apply(batch(5, [ConsumerDelete(2)]))
    removed = 0
    while swept := replica.sweep(2):
        removed += swept
    while replica.sweep(2):
        pass
    with replica._files.read() as tx:
        assert tx.stat(replica._files.keys3)["entries"] == 0
    assert isinstance(replica.records()[0], BucketPut)
    assert replica.records()[-1] == KEY
