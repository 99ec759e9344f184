"""Pauses double up to the longest, are cut short at random, and begin anew after a success."""

from __future__ import annotations

import random

from keywright.runtime.backoff import Backoff


def longest(_: float, high: float) -> float:
    return high


def shortest(low: float, _: float) -> float:
    return low


def test_pauses_double_from_the_first_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 1.0, longest)
    assert [round(backoff.next_pause(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_pause() == 0.1


def test_of_each_pause_at_least_a_share_is_waited() -> None:
    assert Backoff(0.1, 1.0, shortest).next_pause() == 0.05
    assert Backoff(0.1, 1.0, shortest, least=0.0).next_pause() == 0.0


def test_a_pause_of_its_own_length_is_waited_for_half_at_least_and_changes_no_other() -> None:
    backoff = Backoff(0.1, 1.0, shortest, least=0.0)
    assert backoff.spread(30.0) == 15.0
    assert backoff.next_pause() == 0.0
    assert Backoff(0.1, 1.0, longest).spread(30.0) == 30.0


def test_many_do_not_come_back_in_step() -> None:
    assert len({Backoff(1.0, 1.0, random.Random(seed).uniform).next_pause() for seed in range(20)}) == 20
