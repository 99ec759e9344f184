"""The contract between the planes: what is written is read back, and anything else is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.permissions import Access
from keywright.protocol.changes import (
    FORMAT_VERSION,
    Batch,
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    Hidden,
    KeyDelete,
    KeyPut,
    NotInFormat2,
    PlanDelete,
    PlanPut,
    decode,
    decode_all,
    encode,
    in_format_2,
)

SAMPLES = Path(__file__).parent / "samples" / "format-2.jsonl"
SAMPLES_SINCE_3 = Path(__file__).parent / "samples" / f"format-{FORMAT_VERSION}.jsonl"
# One of each kind, as it was written when the format was laid down. A reader must understand these for ever; who has
# to change a line has to raise FORMAT_VERSION, and to keep this file beside a new one.
WRITTEN: list[Change] = [
    BucketPut(7, "bckt_pCcNMjERFSoh5xIQir7o99Z6KDoLp36e", "my-bucket", "acct_a", {"acct_b": Access.READ}),
    BucketPut(1, "bckt_00000000000000000000000000000000", "_system", None, {}),
    BucketPut(9, "bckt_99999999999999999999999999999999", "my-strict-bucket", "acct_a", {}, 300),
    ConsumerPut(12, "csmr_brw0leTAVw478VFKD4F6OqVI", 7, "my-consumer", '{"plan":"gold","ключ":"\\"é"}'),
    KeyPut(bytes(range(32)), 7, 12, "key_m1m4ol223R0kGHGZY7tPQMQl", 1801396800000),
    KeyPut(bytes(32), 7, 12, "key_000000000000000000000000", None),
    KeyDelete(bytes(range(32)), 7),
    ConsumerDelete(12),
    BucketDelete(7),
]
WRITTEN_SINCE_3: list[Change] = [
    BucketPut(7, "bckt_pCcNMjERFSoh5xIQir7o99Z6KDoLp36e", "my-bucket", "acct_a", {}, None, ("*",), ("enabled",)),
    BucketPut(9, "bckt_99999999999999999999999999999999", "my-strict-bucket", "acct_a", {}, 300, (), ("scopes",)),
    ConsumerPut(12, "csmr_brw0leTAVw478VFKD4F6OqVI", 7, "my-consumer", "{}", '{"scopes":["orders:*"]}'),
    ConsumerPut(12, "csmr_brw0leTAVw478VFKD4F6OqVI", 7, "my-consumer", "{}", None, has_lost_powers=True),
    KeyPut(bytes(range(32)), 7, 12, "key_m1m4ol223R0kGHGZY7tPQMQl", 1801396800000, '{"enabled":false}'),
    KeyPut(bytes(32), 7, 12, "key_000000000000000000000000", None, '{"allowedIps":["192.0.2.0/24"]}'),
    PlanPut(3, "plan_0123456789abcdefghijABCD", 7, "gold", '{"scopes":["orders:*"]}'),
    PlanPut(4, "plan_0123456789abcdefghijABCE", 7, "free", None),
    PlanDelete(3, 7),
]

NUMBERS = st.integers(min_value=1, max_value=2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
DIGESTS = st.binary(min_size=32, max_size=32)
CHANGES = st.one_of(
    st.builds(
        BucketPut,
        NUMBERS,
        TEXTS,
        TEXTS,
        st.none() | TEXTS,
        st.dictionaries(TEXTS, st.sampled_from(Access)),
        st.none() | NUMBERS,
        st.lists(TEXTS).map(tuple),
        st.lists(TEXTS).map(tuple),
    ),
    st.builds(BucketDelete, NUMBERS),
    st.builds(ConsumerPut, NUMBERS, TEXTS, NUMBERS, TEXTS, TEXTS, st.none() | TEXTS),
    st.builds(ConsumerPut, NUMBERS, TEXTS, NUMBERS, TEXTS, TEXTS, st.none(), st.booleans()),
    st.builds(ConsumerDelete, NUMBERS),
    st.builds(
        KeyPut, DIGESTS, NUMBERS, NUMBERS, TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | TEXTS
    ),
    st.builds(KeyDelete, DIGESTS, NUMBERS),
    st.builds(PlanPut, NUMBERS, TEXTS, NUMBERS, TEXTS, st.none() | TEXTS),
    st.builds(PlanDelete, NUMBERS, NUMBERS),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
KINDS_OF_FORMAT_2 = ["key", "-key", "consumer", "-consumer", "bucket", "-bucket", "-"]
KINDS = st.sampled_from([*KINDS_OF_FORMAT_2, "key3", "consumer3", "bucket3", "plan3", "-plan3"])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "{}",
        "[]",
        "null",
        '"key"',
        '["key"]',
        '["other",1]',
        '["-consumer"]',
        '["-consumer",1,2]',
        '["-consumer","1"]',
        '["-consumer",1.0]',
        '["-consumer",true]',
        '["-consumer",null]',
        '["-bucket",false]',
        '["-key","' + "00" * 32 + '",true]',
        '["-key","00",1]',
        '["-key","' + "0g" * 32 + '",1]',
        '["-key","' + "0 " * 32 + '",1]',
        '["-key","' + "AA" * 32 + '",1]',
        '["-key",1,1]',
        '["key","' + "00" * 32 + '",1,1,"key_1",true]',
        '["key","' + "00" * 32 + '",1,1,"key_1","never"]',
        '["key","' + "00" * 32 + '",1,1,null,null]',
        '["key","' + "00" * 32 + '",1,1,"key_1"]',
        '["consumer",1,"csmr_1",1,"name",{}]',
        '["bucket",1,"bckt_1","name","acct_a",[]]',
        '["bucket",1,"bckt_1","name","acct_a",{"acct_b":"all"}]',
        '["bucket",1,"bckt_1","name","acct_a",{"acct_b":3}]',
        '["bucket",1,"bckt_1","name","acct_a",{"acct_b":null}]',
        '["bucket",1,"bckt_1","name","acct_a",{},null]',
        '["bucket",1,"bckt_1","name","acct_a",{},0]',
        '["bucket",1,"bckt_1","name","acct_a",{},true]',
        '["bucket",1,"bckt_1","name","acct_a",{},300,1]',
        '["key3","' + "00" * 32 + '",1,1,"key_1",null]',
        '["key3","' + "00" * 32 + '",1,1,"key_1",null,null]',
        '["key3","' + "00" * 32 + '",1,1,"key_1",null,{}]',
        '["consumer3",1,"csmr_1",1,"name","{}"]',
        '["consumer3",1,"csmr_1",1,"name","{}",{}]',
        '["bucket3",1,"bckt_1","name","acct_a",{},0,[],[]]',
        '["bucket3",1,"bckt_1","name","acct_a",{},null,[1],[]]',
        '["bucket3",1,"bckt_1","name","acct_a",{},null,[]]',
        '["plan3",1,"plan_1",1,"gold"]',
        '["plan3",1,"plan_1",1,"gold",{}]',
        '["plan3",1,"plan_1",true,"gold",null]',
        '["-plan3",1]',
        '["-plan3",1,"7"]',
        '["-consumer",1]x',
        '["-consumer",' + "9" * 5000 + "]",
        "[" * 100_000,
        b"\xff\xfe\x00",
        b'["-consumer",\xc3(]',
    ],
    ids=lambda line: repr(line[:60]),
)
def test_what_is_no_change_of_this_format_is_refused(line: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(line)


@given(
    st.text()
    | st.binary()
    | JSON.map(json.dumps)
    | st.builds(lambda kind, rest: json.dumps([kind, *rest]), KINDS, st.lists(JSON, max_size=6))
)
def test_garbage_is_understood_or_refused_and_breaks_nothing(line: str | bytes) -> None:
    try:
        change = decode(line)
    except ValueError:
        return
    assert decode(encode(change)) == change


@given(CHANGES)
def test_a_change_survives_being_written_and_read(change: Change) -> None:
    line = encode(change)
    assert "\n" not in line
    assert decode(line) == change
    assert decode(line.encode()) == change


@given(st.lists(CHANGES))
def test_many_lines_are_understood_as_each_is_alone(changes: list[Change]) -> None:
    lines = [encode(change) for change in changes]
    assert decode_all(lines) == [decode(line) for line in lines] == changes


@pytest.mark.parametrize(
    "lines", [['["-"],["-"]'], ['["-"', '"-"]'], [""], ['["-"]', ""], ['["-"]]', '[["-"]'], ["[" * 100_000], ["[true]"]]
)
def test_lines_that_are_not_one_change_each_are_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_all(lines)


def test_what_format_1_could_say_is_still_said_and_understood_as_it_was() -> None:
    lines = SAMPLES.with_name("format-1.jsonl").read_text("utf-8").splitlines()
    assert [decode(line) for line in lines] == [one for one in WRITTEN if getattr(one, "refuse_after", None) is None]
    assert [encode(decode(line)) for line in lines] == lines


def test_lines_that_were_stored_in_this_format_are_understood_for_ever() -> None:
    lines = SAMPLES.read_text("utf-8").splitlines()
    assert [decode(line) for line in lines] == WRITTEN
    assert [encode(change) for change in WRITTEN] == lines
    assert {type(change) for change in WRITTEN} == {
        BucketPut, BucketDelete, ConsumerPut, ConsumerDelete, KeyPut, KeyDelete,
    }  # fmt: skip
    lines = SAMPLES_SINCE_3.read_text("utf-8").splitlines()
    assert [decode(line) for line in lines] == WRITTEN_SINCE_3
    assert [encode(change) for change in WRITTEN_SINCE_3] == lines


def test_what_format_2_can_say_is_the_same_to_its_readers() -> None:
    assert [in_format_2(change) for change in WRITTEN] == WRITTEN


def test_a_reader_of_format_2_is_told_that_what_it_cannot_judge_is_gone() -> None:
    plain = BucketPut(7, "bckt_pCcNMjERFSoh5xIQir7o99Z6KDoLp36e", "my-bucket", "acct_a")
    strict = BucketPut(9, "bckt_99999999999999999999999999999999", "my-strict-bucket", "acct_a", {}, 300)
    assert [in_format_2(change) for change in WRITTEN_SINCE_3 if not getattr(change, "has_lost_powers", False)] == [
        plain, strict, ConsumerDelete(12), KeyDelete(bytes(range(32)), 7), KeyDelete(bytes(32), 7),
        Hidden(), Hidden(), Hidden(),
    ]  # fmt: skip


def test_a_reader_of_format_2_needs_a_snapshot_when_a_consumer_comes_back() -> None:
    with pytest.raises(NotInFormat2):
        in_format_2(ConsumerPut(12, "csmr_1", 7, "my-consumer", "{}", None, has_lost_powers=True))


@given(CHANGES)
def test_a_reader_of_format_2_gets_no_row_that_it_does_not_know(change: Change) -> None:
    with contextlib.suppress(NotInFormat2):
        assert json.loads(encode(in_format_2(change)))[0] in KINDS_OF_FORMAT_2


def test_a_batch_ends_one_revision_per_change_after_the_one_it_follows() -> None:
    stamp = "0123456789abcdef"
    assert Batch(Cursor(7, stamp, 1), [], Cursor(7, stamp, 1)).revision == 7
    assert Batch(Cursor(7, stamp, 1), [ConsumerDelete(1), ConsumerDelete(2)], Cursor(9, stamp, 2)).revision == 9
    with pytest.raises(ValueError, match="one change for each revision"):
        Batch(Cursor(7, stamp, 1), [ConsumerDelete(1)], Cursor(9, stamp, 2))


def test_a_cursor_survives_being_written_and_read() -> None:
    cursor = Cursor(41, "9f86d081884c7d65", 1_763_900_000_000)
    assert str(cursor) == "41.9f86d081884c7d65.1763900000000"
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    ["", "41", "41.9f86d081884c7d65", "41..1", "-1.9f86d081884c7d65.1", "41.9F86D081884C7D65.1", "41.9f86d081884c7d6.1",
     "41.9f86d081884c7d65.1.1", "41.9f86d081884c7d65.1\n", "٣.9f86d081884c7d65.1", "1" * 19 + ".9f86d081884c7d65.1"],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


@pytest.mark.parametrize(
    ("revision", "stamped_at", "may"),
    [(9, 900, True), (9, 1000, False), (9, 1100, False), (10, 900, False), (11, 900, False), (11, 1100, False)],
    ids=["behind", "as-late", "later", "another-at-the-same", "ahead-but-earlier", "ahead"],
)
def test_a_record_may_get_to_a_cursor_only_from_a_lower_revision_of_an_earlier_time(
    revision: int, stamped_at: int, may: bool
) -> None:
    assert Cursor(revision, "1" * 16, stamped_at).may_become(Cursor(10, "2" * 16, 1000)) is may
