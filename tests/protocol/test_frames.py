"""A frame is the origin's own, made for this request, in its place; or it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Digester, is_valid_custom
from keywright.domain.permissions import Access
from keywright.protocol import frames
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Cursor,
    Hidden,
    KeyDelete,
    KeyPut,
    encode,
)
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner, FrameSplitter

DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
SIGNER = FrameSigner(DIGESTER)
SAMPLES = Path(__file__).parent / "samples"
SAMPLE = SAMPLES / "frame-2.bin"
CHANGES: list[Change] = [
    BucketPut(1, "bckt_" + "a" * 32, "my-bucket", "acct_1", {"acct_2": Access.VALIDATE}),
    ConsumerPut(2, "csmr_" + "b" * 24, 1, "müller", '{"name":"línea\\n","at":"\u2028"}'),
    KeyPut(bytes(range(32)), 1, 2, "key_" + "c" * 24, 1_800_000_000_000),
    KeyDelete(bytes(32), 1),
    ConsumerDelete(2),
    BucketDelete(1),
    Hidden(),
]
FOLLOWS, CURSOR = Cursor(10, "0123456789abcdef", 1_763_900_000_000), Cursor(17, "fedcba9876543210", 1_763_900_000_123)
PLACES = (3, FOLLOWS, CURSOR, 20, 1_234_567)
FRAME = Frame("dply_1", FrameKind.CHANGES, "everything", "nonce-of-16-chars", *PLACES, CHANGES)


def framed(data: bytes) -> bytes:
    """The one frame in these bytes, without its length."""
    (frame,) = FrameSplitter().feed(data)
    return frame


def test_a_stored_sample_of_format_2_is_still_understood() -> None:
    assert SIGNER.decode(framed(SAMPLE.read_bytes())) == FRAME


def test_a_stored_sample_of_format_1_which_had_no_stamps_is_refused_and_named() -> None:
    with pytest.raises(FrameError, match="different versions"):
        SIGNER.decode(framed((SAMPLES / "frame-1.bin").read_bytes()))


def test_what_is_written_now_is_format_2() -> None:
    assert SIGNER.encode(FRAME) == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"deployment_id": "dply_2"}, {"kind": FrameKind.PAGE}, {"scope": "other"}, {"nonce": "nonce-of-another"},
        {"number": 4}, {"follows": FOLLOWS._replace(revision=9)}, {"follows": FOLLOWS._replace(stamp="0" * 16)},
        {"cursor": CURSOR._replace(stamp="0" * 16)}, {"cursor": CURSOR._replace(stamped_at=0)},
        {"head": 21}, {"time": 1}, {"changes": CHANGES[:-1]},
        {"changes": [*CHANGES[1:], CHANGES[0]]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_frame_with_any_field_changed_is_refused(change: dict[str, object]) -> None:
    honest, forged = framed(SIGNER.encode(FRAME)), framed(SIGNER.encode(replace(FRAME, **change)))  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="changed on its way"):
        SIGNER.decode(honest[:36] + forged[36:])


def test_a_frame_with_any_byte_changed_is_refused() -> None:
    honest = framed(SIGNER.encode(FRAME))
    for place in range(len(honest)):
        with pytest.raises(FrameError):
            SIGNER.decode(honest[:place] + bytes([honest[place] ^ 1]) + honest[place + 1 :])


def test_a_frame_cut_short_or_lengthened_is_refused() -> None:
    honest = framed(SIGNER.encode(FRAME))
    for data in (honest[:-1], honest + b" ", honest[:36], b""):
        with pytest.raises(FrameError):
            SIGNER.decode(data)


def test_a_frame_under_another_pepper_is_refused() -> None:
    with pytest.raises(FrameError):
        FrameSigner(Digester(b"another pepper of 32 bytes......")).decode(framed(SIGNER.encode(FRAME)))


def test_a_frame_of_a_newer_format_is_refused_and_named() -> None:
    with pytest.raises(FrameError, match="different versions"):
        SIGNER.decode(framed(SIGNER.encode(FRAME)).replace(b"kwf2", b"kwf3"))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 5000, '["d","changes","s","n",1,2,3,4,5]', '["d","changes","s","n",1,[2,"a",3],[4,"b",5],6]',
     '["d","changes","s","n",1,[2,"a",3],[4,"b",5],6,true]', '["d","changes","s","n",1,[2,"a",3],[4,"b"],6,7]',
     '["d","changes","s","n",1,[2,"a",3],[4,5,6],6,7]', '["d","changes","s","n",1,[true,"a",3],[4,"b",5],6,7]',
     '["d","other","s","n",1,[2,"a",3],[4,"b",5],6,7]', '["d","changes","s","n",1,[2,"a",3],[4,"b",5],6,7]\n["news",1]',
     "\ud800"],
)  # fmt: skip
def test_what_the_origin_signed_but_no_reader_knows_is_refused(text: str) -> None:
    signed = text.encode("utf-8", "surrogatepass")
    with pytest.raises(FrameError):
        SIGNER.decode(b"kwf2" + SIGNER._mac(signed) + signed)


def test_no_api_key_can_have_the_digest_that_signs_frames() -> None:
    assert not is_valid_custom(frames._KEY_LABEL)
    assert DIGESTER.digest(frames._KEY_LABEL) != DIGESTER.digest("keywright pepper check")


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["byte-by-byte", "in-pieces", "at-once"])
def test_frames_are_found_however_the_bytes_are_cut(size: int) -> None:
    data = b"".join(SIGNER.encode(replace(FRAME, number=number)) for number in range(3))
    splitter = FrameSplitter()
    found = [frame for at in range(0, len(data), size) for frame in splitter.feed(data[at : at + size])]
    assert [SIGNER.decode(frame).number for frame in found] == [0, 1, 2]


@pytest.mark.parametrize("length", [0, 35, frames.MAX_BYTES + 1, 2**32 - 1])
def test_a_length_that_no_frame_has_is_refused_before_it_is_waited_for(length: int) -> None:
    with pytest.raises(FrameError):
        list(FrameSplitter().feed(length.to_bytes(4, "big")))


def test_many_changes_are_packed_into_frames_that_are_read() -> None:
    large = ConsumerPut(1, "csmr_" + "b" * 24, 1, "large", json.dumps({"x": "y" * 65_000}))
    parts = list(frames.pack([large] * 20))
    assert sum(len(part) for part in parts) == 20
    assert all(len(SIGNER.encode(replace(FRAME, changes=part))) < 2 * frames.BODY_BYTES for part in parts)
    assert list(frames.pack([])) == []


def test_a_frame_stays_small_however_much_of_its_changes_has_to_be_escaped() -> None:
    quotes = ConsumerPut(1, "csmr_000000000000000000000000", 7, "my-consumer", json.dumps({"q": '"\\' * 2000}))
    key = KeyPut(bytes(32), 7, 12, "key_000000000000000000000000", None)
    long = json.dumps({"metadata": {"q": '"\\' * 2000}})
    scoped = replace(quotes, metadata="{}", powers=long)
    many = BucketPut(7, "bckt_1", "my-bucket", None, {}, None, ["a" * 100] * 50, ["scopes"])
    for change in (quotes, key, replace(key, powers=long), scoped, many):
        for part in frames.pack([change] * 5000):
            assert sum(len(encode(one).encode()) for one in part) <= 2 * frames.BODY_BYTES + len(encode(change))
