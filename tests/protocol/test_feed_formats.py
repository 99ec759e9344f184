"""Each reader is sent what it can judge, in the format that it named, and no other."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from keywright.domain.permissions import Access
from keywright.protocol import feed_formats
from keywright.protocol.changes import (
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
    NotInFormat2,
    PlanDelete,
    PlanPut,
    decode,
    encode,
)

SAMPLES = Path(__file__).parent / "samples"
DIGEST = bytes(32)
OFF = '{"enabled":false}'
PLAIN: list[Change] = [
    BucketPut(1, "bckt_1", "my-bucket", "acct_1", {"acct_2": Access.VALIDATE}, 300),
    ConsumerPut(2, "csmr_1", 1, "one", "{}"),
    KeyPut(DIGEST, 1, 2, "key_1", None),
]
POWERED: list[Change] = [
    BucketPut(1, "bckt_1", "my-bucket", "acct_1", {"acct_2": Access.VALIDATE}, 300, ("*",), ("enabled",)),
    ConsumerPut(2, "csmr_1", 1, "one", "{}", OFF),
    KeyPut(DIGEST, 1, 2, "key_1", None, OFF),
]
PLAN = PlanPut(3, "plan_1", 1, "gold", '{"scopes":["a"]}')


@pytest.mark.parametrize(("values", "named"), [([], 2), (["2"], 2), (["3"], 3), (["4"], 3), (["999999"], 3)], ids=str)
def test_a_reader_is_written_for_in_the_format_that_it_names(values: list[str], named: int) -> None:
    assert feed_formats.format_named(values) == named


@pytest.mark.parametrize(
    "values",
    [
        ["1"],
        ["0"],
        [""],
        ["-3"],
        ["+3"],
        ["03"],
        ["3.0"],
        ["3 "],
        ["\uff13"],
        ["three"],
        ["3,2"],
        ["9" * 5000],
        ["3", "3"],
    ],
    ids=lambda values: str(values)[:20],
)
def test_what_names_no_format_is_refused(values: list[str]) -> None:
    with pytest.raises(ValueError, match="a format of the feed"):
        feed_formats.format_named(values)


def test_what_has_no_powers_is_the_same_in_every_format() -> None:
    for feed_format in feed_formats.FORMATS:
        assert feed_formats.puts_in(PLAIN, feed_format) == PLAIN
        assert [feed_formats.change_in(change, feed_format) for change in PLAIN] == PLAIN


def test_a_reader_of_format_2_has_none_of_what_it_can_not_judge() -> None:
    assert feed_formats.puts_in(POWERED, 3) == POWERED
    assert [feed_formats.change_in(change, 3) for change in POWERED] == POWERED
    assert feed_formats.puts_in(POWERED, 2) == [PLAIN[0]]
    told = [feed_formats.change_in(change, 2) for change in POWERED]
    assert told == [PLAIN[0], ConsumerDelete(2), KeyDelete(DIGEST, 1)]
    assert not any("3" in encode(change).split(",")[0] for change in told)


def test_a_plan_is_for_readers_of_format_3_alone_and_keeps_its_place_for_others() -> None:
    assert feed_formats.puts_in([PLAIN[0], PLAN], 3) == [PLAIN[0], PLAN]
    assert feed_formats.puts_in([PLAIN[0], PLAN], 2) == [PLAIN[0]]
    assert [feed_formats.change_in(change, 2) for change in (PLAN, PlanDelete(3, 1))] == [Hidden(), Hidden()]


SHAPES_OF_FORMAT_2 = {("key", 6), ("consumer", 6), ("-key", 3), ("-consumer", 2), ("bucket", 6), ("bucket", 7),
                      ("-bucket", 2), ("-", 1)}  # fmt: skip
"""Kinds of rows and how long each is: the first release refuses all others, with whatever comes beside them."""


def test_every_stored_row_is_sent_to_a_reader_of_format_2_in_a_shape_that_it_reads() -> None:
    seen = set()
    for file in sorted(SAMPLES.glob("format-*.jsonl")):
        for line in file.read_text().splitlines():
            change = decode(line)
            # What comes back is told by a snapshot, in which it stands as if it had never been away.
            with contextlib.suppress(NotInFormat2):
                told = [feed_formats.change_in(change, 2), *feed_formats.puts_in([change], 2)]
            for one in told:
                row = json.loads(encode(one))
                seen.add((row[0], len(row)))
    assert seen <= SHAPES_OF_FORMAT_2
    assert len(seen) > 4


def test_a_consumer_that_is_plain_again_needs_a_snapshot_in_format_2_alone() -> None:
    again = ConsumerPut(2, "csmr_1", 1, "one", "{}", has_lost_powers=True)
    assert feed_formats.change_in(again, 3) == again
    with pytest.raises(NotInFormat2):
        feed_formats.change_in(again, 2)


def test_a_scope_is_told_apart_by_its_format_and_still_known_to_be_the_same_record() -> None:
    assert (feed_formats.scope_in("everything", 2), feed_formats.scope_in("everything", 3)) == (
        "everything",
        "everything/3",
    )
    assert feed_formats.is_same_record("dply_1/everything", "dply_1/everything/3")
    assert feed_formats.is_same_record("dply_1/0123abcd/3", "dply_1/0123abcd")
    assert not feed_formats.is_same_record("dply_1/everything/3", "dply_2/everything/3")
    assert not feed_formats.is_same_record("dply_1/everything/3", "dply_1/0123abcd/3")
