"""The arithmetic of a rate limit, beside a model of fractions; and what becomes of it when the limit is changed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.limits import MAX_RATE, MAX_WINDOW_SECONDS
from keywright.edge.limits.gcra import GROWS_SECONDS, SHARE_BITS, TICKS_PER_SECOND, WHOLE, Counted, Standing, standing

HALF = WHOLE // 2


class Limit:
    """A limit that is counted, as the table does it."""

    def __init__(self, limit: int, window_seconds: int, share: int = WHOLE) -> None:
        self.limit, self.window_seconds, self.share = limit, window_seconds, share
        self.kept: Counted | None = None

    def look(self, now: int) -> Standing:
        return standing(self.kept, self.limit, self.window_seconds, self.share, now)

    def take(self, now: int) -> bool:
        stand = self.look(now)
        if not stand.fits():
            return False
        self.kept = Counted(stand.taken().debt, now, stand.rate, self.window_seconds)
        return True

    def take_all(self, now: int) -> int:
        count = 0
        while self.take(now):
            count += 1
        return count


@pytest.mark.parametrize(("limit", "seconds"), [(1, 1), (7, 1), (3, 86_400), (1000, 7), (999, 86_399)])
def test_as_many_as_the_limit_fit_at_once_and_then_one_each_nth_of_the_window(limit: int, seconds: int) -> None:
    counted = Limit(limit, seconds)
    assert counted.take_all(10**12) == limit
    each = -(-seconds * TICKS_PER_SECOND // limit)
    assert not counted.take(10**12 + each - 1)
    assert counted.take(10**12 + each)
    assert counted.take_all(10**12 + 10 * seconds * TICKS_PER_SECOND) == limit


@given(
    limit=st.integers(1, 50),
    seconds=st.integers(1, 3),
    waits=st.lists(st.integers(0, 3 * TICKS_PER_SECOND) | st.integers(0, 3), max_size=60),
)
def test_a_limit_lets_through_what_a_model_of_fractions_does(limit: int, seconds: int, waits: list[int]) -> None:
    counted, now, level = Limit(limit, seconds), 1000, Fraction(0)
    for wait in waits:
        now += wait
        level = max(level - Fraction(wait * limit, seconds * TICKS_PER_SECOND), Fraction(0))
        stand = counted.look(now)
        assert stand.remaining == int(limit - level)
        fits = level + 1 <= limit
        assert counted.take(now) == fits
        level += fits


@given(
    limit=st.integers(1, MAX_RATE),
    seconds=st.integers(1, MAX_WINDOW_SECONDS),
    share=st.integers(0, WHOLE),
    debt=st.integers(0, 2**63),
)
def test_no_limit_is_too_large_to_be_kept(limit: int, seconds: int, share: int, debt: int) -> None:
    stand = standing(Counted(debt, 5, 1, seconds), limit, seconds, share, 5)
    assert 0 <= stand.debt <= 2**63 - 1
    assert 0 <= stand.rate < 2**64
    assert stand.capacity <= limit * seconds * TICKS_PER_SECOND
    if stand.fits():
        assert stand.taken().debt < 2**63


@given(limit=st.integers(1, 1000), seconds=st.integers(1, 3600), taken=st.integers(0, 1000), units=st.integers(1, 1000))
def test_it_fits_when_it_says_and_not_a_second_earlier(limit: int, seconds: int, taken: int, units: int) -> None:
    ticks = seconds * TICKS_PER_SECOND
    kept = Counted(min(taken, limit) * ticks, 0, limit << SHARE_BITS, seconds)
    wait = standing(kept, limit, seconds, WHOLE, 0).seconds_until(units)
    if units > limit:
        assert wait == min(seconds, GROWS_SECONDS)
        return
    assert standing(kept, limit, seconds, WHOLE, wait * TICKS_PER_SECOND).fits(units)
    if wait:
        assert not standing(kept, limit, seconds, WHOLE, (wait - 1) * TICKS_PER_SECOND).fits(units)


@pytest.mark.parametrize(
    ("before", "taken", "after", "remaining"),
    [
        ((100, 60), 50, (100, 60), 50), ((100, 60), 50, (200, 60), 150), ((100, 60), 50, (60, 60), 10),
        ((100, 60), 50, (10, 60), 0), ((100, 60), 50, (100, 3600), 50), ((100, 3600), 50, (100, 1), 50),
        ((10, 60), 10, (100, 86_400), 90), ((1, 86_400), 1, (1, 1), 0),
    ],
)  # fmt: skip
def test_a_limit_that_is_changed_goes_on_with_what_was_counted(
    before: tuple[int, int], taken: int, after: tuple[int, int], remaining: int
) -> None:
    counted = Limit(*before)
    assert sum(counted.take(7) for _ in range(taken)) == taken
    counted.limit, counted.window_seconds = after
    assert counted.look(7).remaining == remaining


def test_a_limit_that_is_lowered_is_had_again_after_one_window_of_the_new_one() -> None:
    counted = Limit(1_000_000, 1)
    assert sum(counted.take(0) for _ in range(1000)) == 1000
    counted.limit, counted.window_seconds = 10, 60
    assert not counted.take(0)
    assert counted.take_all(60 * TICKS_PER_SECOND) == 10


def test_what_was_idle_is_given_back_at_the_rate_of_before_the_change() -> None:
    counted = Limit(1000, 1)
    assert counted.take_all(0) == 1000
    counted.limit, counted.window_seconds = 1, 86_400
    assert counted.take(2 * TICKS_PER_SECOND)


def test_a_share_is_of_the_rate_and_of_what_is_let_through_at_once() -> None:
    counted = Limit(10, 10, HALF)
    assert counted.take_all(0) == 5
    assert not counted.take(2 * TICKS_PER_SECOND - 1)
    assert counted.take(2 * TICKS_PER_SECOND)
    counted.share = WHOLE
    assert counted.take_all(2 * TICKS_PER_SECOND) == 5


def test_a_share_too_small_for_one_lets_none_through_and_says_to_ask_again_soon() -> None:
    counted = Limit(10, 30, WHOLE // 20)
    assert not counted.take(0)
    assert counted.look(0).seconds_until(1) == counted.look(0).reset_seconds == GROWS_SECONDS


def test_nothing_is_given_back_when_a_clock_goes_back() -> None:
    counted = Limit(2, 10)
    assert counted.take_all(10**9) == 2
    assert not counted.take(5)


@pytest.mark.parametrize(("taken", "reset"), [(0, 0), (1, 6), (9, 6), (10, 6)])
def test_the_reset_is_when_one_more_fits(taken: int, reset: int) -> None:
    counted = Limit(10, 60)
    assert sum(counted.take(0) for _ in range(taken)) == taken
    assert counted.look(0).reset_seconds == reset
