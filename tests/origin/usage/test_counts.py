"""Adding counts up, packing and dividing them loses none and doubles none."""

from __future__ import annotations

import random

from keywright.origin.usage.counts import Count, Counts, read_sources, write_sources
from keywright.protocol.usage import HOUR_MILLIS, UsageRow


def row(key: str | None, total: int, **changes: object) -> UsageRow:
    values = {"hour": 490_000, "bucket_number": 1, "consumer_number": 7 if key else None, "verdict": "VALID"}
    values |= {"plan": None, "denied_scope": None, "route": None, "first_ms": 10, "last_ms": 20}
    return UsageRow(**{**values, "key_id": key, "total": total, **changes})  # type: ignore[arg-type]


def test_rows_of_one_key_and_hour_are_added_whatever_else_they_tell() -> None:
    rows = [row("key_a", 3, plan=2, route="r", last_ms=30), row("key_a", 4, plan=2), row(None, 5, verdict="UNKNOWN")]
    counts = Counts.of_rows(rows, 9)
    start = 490_000 * HOUR_MILLIS
    assert counts.keys == {(490_000, 1, 7, "key_a", "VALID"): Count(7, start + 30, {9: 7})}
    assert counts.since == start + 10
    by_kind = {(kind, value, verdict): total for (_, _, kind, value, verdict), total in counts.totals.items()}
    assert by_kind == {
        ("", "", "VALID"): 7,
        ("edge", "9", "VALID"): 7,
        ("plan", "2", "VALID"): 7,
        ("route", "r", "VALID"): 3,
        ("", "", "UNKNOWN"): 5,
        ("edge", "9", "UNKNOWN"): 5,
    }


def test_counts_are_the_same_after_packing_dividing_and_slicing_in_any_order() -> None:
    draw = random.Random(5)
    whole, pieces = Counts(), []
    for source in range(4):
        rows = [
            row(f"key_{draw.randrange(50)}", draw.randrange(1, 9), hour=490_000 + draw.randrange(3)) for _ in range(200)
        ]
        batch = Counts.of_rows(rows, source)
        whole.add_all(Counts.unpack(batch.pack()))
        for part in batch.divided(4).values():
            pieces += [Counts.unpack(one.pack()) for one in part.sliced(7)]
    assert all(0 < len(piece) <= 7 for piece in pieces)
    draw.shuffle(pieces)
    again = Counts()
    for piece in pieces:
        again.add_all(piece)
    assert again == whole


def test_empty_counts_have_no_slices() -> None:
    assert list(Counts().sliced(10)) == []
    assert Counts().divided(4) == {}


def test_sources_are_read_as_they_were_written() -> None:
    assert write_sources({3: 7, 1: 25}) == "1:25 3:7"
    assert read_sources("1:25 3:7", {3: 1}) == {1: 25, 3: 8}
    assert read_sources("") == {}
