"""Keys in streams: every one is found, once, where it is, whatever stands around it and however the bytes come."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keywright.cli.leaks import finder
from keywright.cli.leaks.finder import Found, find_keys
from keywright.domain.keyformat import checksum, generate
from scanners.places import PLACES

KEY = "kwak_d67b7e241bb948758f415b79aa8ec822_2efb7009"
LONG = "a_prefix_of_24_charactrs_d67b7e241bb948758f415b79aa8ec822_2efb7009"


class Drops(io.BytesIO):
    """Bytes that come as a pipe gives them: now some, now many."""

    def __init__(self, data: bytes, seed: int) -> None:
        super().__init__(data)
        self._random = random.Random(seed)

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._random.randint(1, 97))


def find(data: bytes, prefixes: Collection[str] = ()) -> list[Found]:
    return list(find_keys(io.BytesIO(data), prefixes))


@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_found_in_every_place(place: str) -> None:
    text = PLACES[place].format(key=KEY)
    (found,) = find(text.encode(), ["kwak", "kwmk"])
    line = text[: text.index(KEY)].count("\n") + 1
    column = text.index(KEY) - text.rfind("\n", 0, text.index(KEY))
    assert found == Found(line, column, "kwak", "2efb7009", hashlib.sha256(KEY.encode()).hexdigest())


@pytest.mark.parametrize(
    "text",
    [
        "", "_" * 200, KEY[:-1], KEY[:-1] + "0", KEY.upper(), KEY.replace("d67b", "d67c"), "_" + KEY.partition("_")[2],
        "a" + "_" + KEY.partition("_")[2], "1_" + KEY.partition("_")[2], "\0".join(KEY[:-1]), KEY.replace("_", "-"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_key_is_not_found(text: str) -> None:
    assert find(text.encode()) == []


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252"]
)
@pytest.mark.parametrize("key", [KEY, LONG])
def test_encodings_of_other_widths_are_read_where_they_stand(encoding: str, key: str) -> None:
    text = f"für: x\n  schlüssel = '{key}'\n"
    (found,) = find(text.encode(encoding))
    assert found.fingerprint == hashlib.sha256(key.encode()).hexdigest()
    assert found.line == 2
    assert find(text.encode(encoding), ["other"]) == []


def test_what_stands_before_the_prefix_in_a_wide_encoding_is_none_of_it() -> None:
    wide = b"\xff\xff\x01_" + KEY.encode("utf-16-le") + b"\xff"
    (found,) = find(wide)
    assert found.prefix == "kwak"


@pytest.mark.parametrize(
    ("before", "prefix"),
    [("", "kwak"), ("X=", "kwak"), ("MY_", "kwak"), ("my_", "my_kwak"), ("x", "xkwak"), ("-", "kwak"), ("__", "kwak")],
)
def test_a_prefix_is_the_longest_that_may_be_one_unless_it_is_said(before: str, prefix: str) -> None:
    (found,) = find((before + KEY).encode())
    assert found.prefix == prefix
    (found,) = find((before + KEY).encode(), ["kwak", "acme"])
    assert (found.prefix, found.column) == ("kwak", len(before) + 1)


def test_a_key_that_overlaps_with_what_looks_like_one_is_found() -> None:
    # Random part and checksum of the false one are the true one's prefix and random part.
    body = "0123456789abcdef0123456789abcdef"
    false = f"ab_{'c' * 32}_{body}_{checksum(body)}"
    assert [one.prefix for one in find(false.encode(), ["c" * 20])] == ["c" * 20]


def test_keys_that_touch_are_each_found() -> None:
    keys = [generate("kwak", random.randbytes).reveal() for _ in range(20)]
    found = find("".join(keys).encode(), ["kwak"])
    assert [one.fingerprint for one in found] == [hashlib.sha256(key.encode()).hexdigest() for key in keys]


@given(seed=st.integers(0, 10**6), gaps=st.lists(st.integers(0, 400), min_size=1, max_size=12), wide=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_key_is_found_once_however_the_bytes_come(seed: int, gaps: list[int], wide: bool) -> None:
    source = random.Random(seed)
    text, expected = "", []
    for gap in gaps:
        text += "".join(source.choice("_abcdef01 \n=") for _ in range(gap)) + "="
        key = generate(source.choice(["kwak", "acme_live"]), source.randbytes).reveal()
        before = text.rpartition("\n")[2]
        expected.append((text.count("\n") + 1, len(before) * (2 if wide else 1) + 1, key))
        text += key
    data = text.encode("utf-16-le" if wide else "ascii")
    found = list(find_keys(Drops(data, seed), ["kwak", "acme_live"]))
    told = [(one.line, one.fingerprint) for one in found]
    assert told == [(line, hashlib.sha256(key.encode()).hexdigest()) for line, _, key in expected]
    if not wide:
        assert [one.column for one in found] == [column for _, column, _ in expected]
    assert found == list(find_keys(io.BytesIO(data), ["kwak", "acme_live"]))


def test_a_key_across_two_reads_is_found_and_little_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "CHUNK_BYTES", 1 << 12)
    for at in range((1 << 12) - 50, (1 << 12) + 5):
        data = b"." * at + b"\n" + KEY.encode() + b"." * 5000
        assert [(one.line, one.column) for one in find(data)] == [(2, 1)], at


@given(st.binary(max_size=3000))
@settings(max_examples=100, deadline=None)
def test_no_bytes_trip_it(data: bytes) -> None:
    assert find(data) == []
