"""Rate limits and quotas: their form is understood whole, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.limits import MAX_COST, MAX_RATE, MAX_UNITS, LimitScope, Period, Quota, RateLimit
from keywright.domain.powers import decode_powers, encode_powers

RATE = {"name": "burst", "limit": 100, "windowSeconds": 60, "scope": "global"}
QUOTA = {
    "name": "monthly", "limit": 1000, "period": "month", "timeZone": "Europe/Berlin", "anchor": 31, "defaultCost": 2,
}  # fmt: skip
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,38}[a-z0-9]", fullmatch=True)
RATES = st.builds(
    RateLimit, NAMES, st.integers(1, MAX_RATE), st.integers(1, 86_400), st.sampled_from(LimitScope)
)  # fmt: skip
QUOTAS = st.builds(
    Quota, NAMES, st.integers(0, MAX_UNITS), st.sampled_from(Period), st.sampled_from(["UTC", "Asia/Tokyo"]),
    st.integers(1, 31), st.integers(1, MAX_COST),
)  # fmt: skip


@given(st.lists(RATES, max_size=3), st.lists(QUOTAS, max_size=3), st.none() | st.integers(1, 2**62))
def test_limits_survive_being_written_and_read(rates: list[RateLimit], quotas: list[Quota], plan: int | None) -> None:
    text = encode_powers(rate_limits=rates, quotas=quotas, plan=plan)
    assert text is not None
    read = decode_powers(text)
    assert (read.rate_limits, read.quotas, read.plan) == (tuple(rates), tuple(quotas), plan)
    assert read.has_limits is bool(rates or quotas)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "A"}, {"name": 'a"b'}, {"name": None}, {"limit": 0}, {"limit": 1.0}, {"limit": True},
        {"limit": MAX_RATE + 1}, {"windowSeconds": 0}, {"windowSeconds": 86_401}, {"scope": "planet"}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_rate_limit_is_refused(change: dict[str, Any]) -> None:
    assert RateLimit.from_json(RATE).to_json() == RATE
    for said in (RATE | change, {name: value for name, value in RATE.items() if name != next(iter(change))}, [], None):
        if said != RATE:
            with pytest.raises(ValueError, match=r"."):
                RateLimit.from_json(said)
    with pytest.raises(ValueError, match=r"."):
        decode_powers(json.dumps({"rateLimits": [RATE | change]}))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "-a"}, {"limit": -1}, {"limit": 2**63}, {"limit": "9"}, {"period": "year"}, {"anchor": 0},
        {"anchor": 32}, {"defaultCost": 0}, {"defaultCost": MAX_COST + 1}, {"timeZone": 1}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_quota_is_refused(change: dict[str, Any]) -> None:
    assert Quota.from_json(QUOTA).to_json() == QUOTA
    with pytest.raises(ValueError, match=r"."):
        Quota.from_json(QUOTA | change)
    with pytest.raises(ValueError, match=r"."):
        decode_powers(json.dumps({"quotas": [QUOTA | change]}))


@pytest.mark.parametrize("said", ['{"plan":true}', '{"plan":"7"}', '{"rateLimits":{}}', '{"quotas":null}'])
def test_what_is_no_powers_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_powers(said)
