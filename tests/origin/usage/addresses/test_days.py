"""Of the networks of a key and day the most frequent ones are kept, and all of them are in the estimate."""

from __future__ import annotations

from keywright.origin.usage.addresses.days import KEPT, MOST_IN_MEMORY, SHOWN, AddressDay
from keywright.origin.usage.counts import Counts
from keywright.protocol.usage import OTHER_ADDRESSES, UsageRow
from support.counted import row

HOUR = 24 * 1000


def told(network: str | None, total: int = 1, key: str = "key_a", hour: int = HOUR, **more: object) -> UsageRow:
    return row(key, total, hour=hour, address=network, **more)


def day_of(rows: list[UsageRow]) -> AddressDay:
    (day,) = Counts.of_rows(rows, 1).addresses.values()
    return day


def network(number: int) -> str:
    return f"10.{number // 256}.{number % 256}.0/24"


def test_rows_of_a_day_are_added_up_by_network() -> None:
    rows = [
        told("192.0.2.0/24", 3, first_ms=5, last_ms=90),
        told("192.0.2.0/24", 2, hour=HOUR + 3, first_ms=1, last_ms=2, verdict="EXPIRED"),
        told("2001:db8:1::/48", 1, hour=HOUR + 1, first_ms=7, last_ms=7),
        told(None, 50),
    ]
    day = day_of(rows)
    held = day.networks["192.0.2.0/24"]
    assert (held.first, held.last, held.verdicts) == (
        HOUR * 3_600_000 + 5,
        (HOUR + 3) * 3_600_000 + 2,
        {"VALID": 3, "EXPIRED": 2},
    )
    assert day.sketch.estimate() == 2
    # A refusal is no use.
    assert day.used == ((HOUR + 1) * 3_600_000 + 7, "2001:db8:1::/48")


def test_the_most_frequent_are_kept_however_many_others_come_between() -> None:
    counts = Counts()
    for part in range(20):
        often = [told(network(number), 50) for number in range(SHOWN)]
        seldom = [told(network(1000 + 300 * part + number)) for number in range(300)]
        counts.add_all(Counts.unpack(Counts.of_rows([*seldom, *often], 1).pack()))
    (day,) = counts.addresses.values()
    assert len(day.networks) <= MOST_IN_MEMORY
    assert len(day.pack_networks()) == KEPT
    assert {name: count.total for name, count in day.most_frequent(SHOWN).items()} == {
        network(number): 1000 for number in range(SHOWN)
    }
    assert abs(day.sketch.estimate() - (SHOWN + 6000)) < 0.1 * 6000


def test_more_networks_than_an_edge_tells_apart_are_one_that_is_not_counted_as_such() -> None:
    day = day_of([told(OTHER_ADDRESSES, 9), told("192.0.2.0/24")])
    assert day.networks[OTHER_ADDRESSES].total == 9
    assert day.sketch.estimate() == 1
    assert day.used is not None
    assert day.used[1] == "192.0.2.0/24"


def test_counts_without_addresses_are_packed_as_before_and_all_are_divided_without_loss() -> None:
    assert not Counts.unpack(Counts.of_rows([told(None)], 1).pack()).addresses
    rows = [told(network(at % 3), key=f"key_{at}", hour=HOUR + 24 * (at % 2)) for at in range(200)]
    counts = Counts.of_rows(rows, 1)
    divided = counts.divided(16).values()
    assert sum(len(one.addresses) for one in divided) == 200
    slices = list(counts.sliced(70))
    assert all(len(one) <= 70 for one in slices)
    together = Counts()
    for one in slices:
        together.add_all(Counts.unpack(one.pack()))
    for one in (together, Counts.unpack(counts.pack())):
        assert {name: day.pack() for name, day in one.addresses.items()} == {
            name: day.pack() for name, day in counts.addresses.items()
        }
        assert (one.keys, one.totals) == (counts.keys, counts.totals)
