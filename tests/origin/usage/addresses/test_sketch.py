"""A sketch tells how many different texts there were, within its error, whatever order they came in."""

from __future__ import annotations

import random
from statistics import fmean, pstdev

import pytest

from keywright.origin.usage.addresses.sketch import REGISTERS, STANDARD_ERROR, Sketch


def sketch_of(texts: range, name: str = "") -> Sketch:
    sketch = Sketch()
    for number in texts:
        sketch.add(f"{name}{number}")
    return sketch


@pytest.mark.parametrize("count", [0, 1, 2, 16, 100])
def test_few_are_told_to_the_last_one_or_nearly(count: int) -> None:
    assert abs(sketch_of(range(count)).estimate() - count) <= count * 2 * STANDARD_ERROR


@pytest.mark.parametrize(("count", "times"), [(1_000, 30), (5_000, 16), (20_000, 6)])
def test_estimate_is_unbiased_and_off_by_no_more_than_its_error(count: int, times: int) -> None:
    errors = [sketch_of(range(count), f"{count}-{at}-").estimate() / count - 1 for at in range(times)]
    # Around the bounds at which other estimators change their method, too (5,120 is 2.5 registers).
    assert abs(fmean(errors)) <= 3 * STANDARD_ERROR / times**0.5
    assert pstdev(errors) <= 1.8 * STANDARD_ERROR
    assert max(map(abs, errors)) <= 4 * STANDARD_ERROR


def test_merged_sketches_are_the_sketch_of_all_texts() -> None:
    whole, parts = sketch_of(range(9_000)), [sketch_of(range(at, at + 4_000)) for at in (5_000, 0, 2_500)]
    merged = Sketch()
    for part in [*parts, parts[0]]:
        merged.merge(part)
    assert merged.encode() == whole.encode()


@pytest.mark.parametrize("count", [0, 3, 600, 50_000])
def test_sketch_is_small_and_comes_back_as_it_was(count: int) -> None:
    encoded = sketch_of(range(count)).encode()
    assert len(encoded) <= min(1 + 3 * count, 1 + REGISTERS)
    assert Sketch.decode(encoded).encode() == encoded


def test_what_is_no_sketch_is_refused() -> None:
    good, draw = sketch_of(range(50)).encode(), random.Random(1)
    broken = [
        b"",
        b"\x00",
        b"\x01\x00",
        b"\x01\xff\xff\x01",
        b"\x01\x00\x00\x00",
        b"\x01\x00\x00\x40",
        b"\x02" + bytes(5),
    ]
    broken += [good[:-1], b"\x02" + b"\xff" * REGISTERS]
    for data in [*broken, *(draw.randbytes(draw.randrange(3 * 40)) + b"!" for _ in range(50))]:
        with pytest.raises(ValueError, match="sketch"):
            Sketch.decode(b"\x03" + data if data.endswith(b"!") else data)
