"""Which names stand in the metrics: so many and no more, the same for all workers, and none is dropped again."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import pytest

from keywright.runtime.metrics.shared_names import SharedNames

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_shared", [True, False], ids=["of several workers", "of one worker"])
def test_names_beyond_so_many_are_never_told_and_those_before_always_are(tmp_path: Path, is_shared: bool) -> None:
    names = SharedNames(tmp_path if is_shared else None, most=3)
    assert names.choose(["b", "a"]) == {"a", "b"}
    assert names.choose(["d", "c", "b"]) == {"b", "c"}
    assert names.choose(["e", "d", "a"]) == {"a"}
    assert names.choose([]) == set()


def test_names_are_the_same_for_all_workers_whoever_met_them_first(tmp_path: Path) -> None:
    dice = random.Random(14)
    workers = [SharedNames(tmp_path, most=5) for _ in range(4)]
    met: list[set[str]] = [set() for _ in workers]
    told: list[set[str]] = [set() for _ in workers]
    for _ in range(400):
        number = dice.randrange(len(workers))
        if dice.random() < 0.05:
            # It died: whoever comes after it has its counts, and chooses anew.
            workers[number] = SharedNames(tmp_path, most=5)
        met[number].add(f"bucket-{dice.randrange(20)}")
        chosen = workers[number].choose(met[number])
        assert told[number] <= chosen
        told[number] = chosen
    everything = {f"bucket-{number}" for number in range(20)}
    assert {frozenset(worker.choose(everything)) for worker in workers} == {frozenset(set.union(*told))}
    assert len(set.union(*told)) == 5


def test_names_whose_files_are_broken_are_chosen_by_each_worker_alone_which_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, missing = SharedNames(tmp_path, most=2), SharedNames(tmp_path / "none", most=2)
    (tmp_path / "names").write_text("[1")
    with caplog.at_level(logging.WARNING):
        for names in (broken, missing):
            assert names.choose(["a"]) == {"a"}
            assert names.choose(["a", "b", "c"]) == {"a", "b"}
    assert caplog.text.count("workers may tell of different buckets") == 2
