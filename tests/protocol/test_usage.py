"""A batch of usage is read as it was sealed, and nothing else is read as one."""

from __future__ import annotations

import json
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.protocol import usage
from keywright.protocol.usage import (
    HOUR_MILLIS,
    MAX_BYTES,
    MAX_LOSSES,
    MAX_ROWS,
    MAX_TEXTS,
    Loss,
    LossReason,
    UsageBatch,
    UsageError,
    UsageRow,
)

SAMPLES = Path(__file__).parent / "samples"
EPOCH = "0123456789abcdef0123456789abcdef"
HOUR = 490_000
KEY = "key_0123456789abcdefABCDEFGH"
ROWS = (
    UsageRow(HOUR, 7, 0, KEY, "EXPIRED", None, None, None, 5, 0, 1),
    UsageRow(HOUR, 7, 11, KEY, "VALID", 3, None, "orders", 5, 0, HOUR_MILLIS - 1),
    UsageRow(HOUR, 7, 11, KEY, "INSUFFICIENT_SCOPE", None, "orders:write", None, 1, 9, 9, "192.0.2.0/24"),
    UsageRow(HOUR + 1, 0, None, None, "UNKNOWN", 0, None, None, 10**15, 1, 2),
)
LOST = (
    Loss("f" * 32, None, None, None, 1, 2, LossReason.KILLED),
    Loss(EPOCH, 1, 2, 30, 1, 2, LossReason.SPOOL_FULL),
)
BATCH = UsageBatch(
    "dply_1", EPOCH, 3, 3, "0123456789abcdef", "fra-1", "eu", 1_764_000_000_000, 1_763_999_999_000, ROWS, LOST
)
PACK = struct.Struct(">IIQ28sIHHHHQII").pack


def line(**changed: Any) -> list[Any]:
    fields = {
        "deployment": "dply_1", "epoch": EPOCH, "first": 3, "number": 3, "instance": "0123456789abcdef",
        "name": "fra-1", "region": "eu", "sealed_at": 5, "until": 4, "count": 1,
        "texts": ["VALID", "a:b"], "losses": [],
    }  # fmt: skip
    return list((fields | changed).values())


def row(**changed: Any) -> bytes:
    fields = {
        "hour": HOUR, "bucket": 7, "consumer": 12, "key": KEY.encode(), "plan": 0, "verdict": 1, "scope": 0, "route": 0,
        "address": 0, "count": 1, "first": 0, "last": 0,
    }  # fmt: skip
    return PACK(*(fields | changed).values())


def content(said: Any = None, rows: bytes | None = None) -> bytes:
    said = line() if said is None else said
    encoded = said if isinstance(said, bytes) else json.dumps(said).encode()
    return b"kwb1" + encoded + b"\n" + (zlib.compress(row()) if rows is None else rows)


def test_stored_sample_of_format_1_is_still_understood_and_its_name_is_the_same() -> None:
    sample = (SAMPLES / "usage-batch-1.bin").read_bytes()
    assert usage.decode(sample) == BATCH
    assert usage.digest_of(sample).hex() == "4a174638fb7522ff7eb4cd78a454636fac8a017b57546e1003ce96488cc07b6c"


def test_batch_is_read_as_it_was_sealed() -> None:
    assert usage.decode(usage.encode(BATCH)) == BATCH
    assert usage.decode(content()).rows == (UsageRow(HOUR, 7, 11, KEY, "VALID", None, None, None, 1, 0, 0),)


def test_fullest_batch_that_no_compression_helps_is_within_what_a_broker_takes() -> None:
    draw = random.Random(7)
    texts = ["V", *(draw.randbytes(64).hex() for _ in range(MAX_TEXTS - 1))]
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

    def some(_: int) -> UsageRow:
        key = "".join(draw.choices(alphabet, k=28))
        first, last = sorted((draw.randrange(HOUR_MILLIS), draw.randrange(HOUR_MILLIS)))
        scope, route, address = draw.choices(texts, k=3)
        numbers = draw.randrange(10**7), draw.getrandbits(32), draw.randrange(1, 10**12)
        plan = draw.getrandbits(31)
        return UsageRow(*numbers, key, "V", plan, scope, route, draw.randrange(1, 10**15), first, last, address)

    losses = tuple(
        Loss(EPOCH, 10**12, 10**12, 10**15, 10**14, 10**14, LossReason.FROM_AFTER_NOW) for _ in range(MAX_LOSSES)
    )
    full = replace(BATCH, rows=tuple(map(some, range(MAX_ROWS))), losses=losses, name="n" * 64, region="r" * 64)
    encoded = usage.encode(full)
    assert usage.decode(encoded) == full
    assert len(encoded) <= MAX_BYTES <= 1024 * 1024 - 4096


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"kwb1", id="nothing behind the magic"),
        pytest.param(b"{" * 10_000_000, id="10 MB of garbage"),
        pytest.param(content().replace(b"kwb1", b"kwb2"), id="a later format"),
        pytest.param(content(b"[" * 10_000), id="no JSON"),
        pytest.param(content({"epoch": EPOCH}), id="no array"),
        pytest.param(content([*line(), 1]), id="a member more"),
        pytest.param(content(line(epoch="x")), id="an epoch that is none"),
        pytest.param(content(line(number=0, first=0)), id="number 0"),
        pytest.param(content(line(first=4)), id="first after last"),
        pytest.param(content(line(number=True, first=True)), id="numbers that are booleans"),
        pytest.param(content(line(first=2)), id="several numbers with rows"),
        pytest.param(content(line(first=2, count=0), zlib.compress(b"")), id="several numbers without a loss"),
        pytest.param(content(line(instance="short")), id="an instance that is none"),
        pytest.param(content(line(name="a b")), id="a name that is none"),
        pytest.param(content(line(until=-1)), id="a moment before time"),
        pytest.param(content(line(until=10**15)), id="a moment after all dates"),
        pytest.param(content(line(texts=["VALID", 1])), id="a text that is a number"),
        pytest.param(content(line(texts=["VALID", "a\n"])), id="a text with a line end"),
        pytest.param(content(line(texts=["x"] * (MAX_TEXTS + 1))), id="too many texts"),
        pytest.param(content(line(losses=[[EPOCH, None, None, None, 1, 2, "mislaid"]])), id="a reason that is none"),
        pytest.param(content(line(losses=[[EPOCH, 1, None, None, 1, 2, "killed"]])), id="half a range"),
        pytest.param(content(line(losses=[[EPOCH, None, None, -1, 1, 2, "killed"]])), id="fewer than none lost"),
        pytest.param(content(line(losses=[7])), id="a loss that is a number"),
        pytest.param(content(line(losses=[[EPOCH, 1, 1, 1, 1, 2, "killed"]] * (MAX_LOSSES + 1))), id="too many losses"),
        pytest.param(content(line(count=2)), id="fewer rows than said"),
        pytest.param(content(line(count=0)), id="more rows than said"),
        pytest.param(content(line(count=MAX_ROWS + 1)), id="too many rows"),
        pytest.param(content(rows=b"junk"), id="rows that are not compressed"),
        pytest.param(content(rows=zlib.compress(row())[:-3]), id="rows that end too soon"),
        pytest.param(content(rows=zlib.compress(row()) + b"more"), id="something behind the rows"),
        pytest.param(content(rows=zlib.compress(bytes(40_000_000), 9)), id="a bomb"),
        pytest.param(content(rows=zlib.compress(row(verdict=0))), id="no verdict"),
        pytest.param(content(rows=zlib.compress(row(verdict=2))), id="a verdict that is none"),
        pytest.param(content(rows=zlib.compress(row(scope=3))), id="a text that is not there"),
        pytest.param(content(rows=zlib.compress(row(count=0))), id="no count"),
        pytest.param(content(rows=zlib.compress(row(count=10**15 + 1))), id="too large a count"),
        pytest.param(content(rows=zlib.compress(row(first=2, last=1))), id="first after last use"),
        pytest.param(content(rows=zlib.compress(row(last=HOUR_MILLIS))), id="a use after the hour"),
        pytest.param(content(rows=zlib.compress(row(hour=10**8))), id="an hour after all dates"),
        pytest.param(content(rows=zlib.compress(row(key=b""))), id="a consumer without a key"),
        pytest.param(content(rows=zlib.compress(row(consumer=0))), id="a key without a consumer"),
        pytest.param(content(rows=zlib.compress(row(key=b"key_\x00_1"))), id="a key with a NUL"),
        pytest.param(content(rows=zlib.compress(row(key="key_é".encode()))), id="a key that is not ASCII"),
    ],
)
def test_what_no_edge_sealed_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        usage.decode(data)


@given(st.data())
def test_no_damage_is_read_as_another_batch_of_the_same_name(data: st.DataObject) -> None:
    whole = usage.encode(BATCH)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    assert usage.digest_of(damaged) != usage.digest_of(whole)
    try:
        usage.decode(damaged)
    except UsageError:
        return
