"""A snapshot file is whole and of this deployment, or it is refused: whatever was done to it, wherever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keywright.domain.keyformat import Digester
from keywright.domain.permissions import Access
from keywright.protocol.changes import NOWHERE, BucketPut, Change, ConsumerPut, Cursor, KeyPut
from keywright.protocol.frames import Frame, FrameKind, FrameSigner
from keywright.protocol.snapshot_file import SnapshotFileError, SnapshotHead, SnapshotReader, SnapshotWriter

DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
SAMPLE = Path(__file__).parent / "samples" / "snapshot-1.bin"
HEAD = SnapshotHead("dply_1", "everything", Cursor(42, "0123456789abcdef", 1_790_000_000_000), 1_800_000_000_000, 2)
HEAD_3 = replace(HEAD, scope="everything/3", feed_format=3)
POWERED: list[Change] = [
    BucketPut(1, "bckt_" + "a" * 32, "my-bucket", "acct_1", {}, None, ("orders:*",), ("enabled", "scopes")),
    ConsumerPut(2, "csmr_" + "b" * 24, 1, "one", "{}", '{"scopes":["orders:read"]}'),
    KeyPut(bytes(range(32)), 1, 2, "key_" + "c" * 24, None, '{"enabled":false}'),
]
PAGES: list[list[Change]] = [
    [BucketPut(1, "bckt_" + "a" * 32, "my-bucket", "acct_1", {"acct_2": Access.VALIDATE})],
    [ConsumerPut(2, "csmr_" + "b" * 24, 1, "müller", '{"name":"línea\\n"}')],
    [],
    [KeyPut(bytes(range(32)), 1, 2, "key_" + "c" * 24, 1_800_000_000_000)],
]


def parts(head: SnapshotHead = HEAD, nonce: str = "random-text-of-a-file") -> list[bytes]:
    """The bytes of a file: the beginning, a part for each page that isn't empty, the end."""
    writer = SnapshotWriter(DIGESTER, head, nonce)
    return [writer.begin(), *(part for page in PAGES for part in writer.add(page)), writer.end()]


def read(data: bytes, digester: Digester = DIGESTER, size: int = 1 << 20) -> tuple[SnapshotHead, list[Change]]:
    reader = SnapshotReader(digester, (data[at : at + size] for at in range(0, len(data), size)))
    return reader.head, [change for page in reader.pages() for change in page]


FILE = b"".join(parts())


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["byte-by-byte", "in-pieces", "at-once"])
def test_what_was_written_is_read_however_the_bytes_are_cut(size: int) -> None:
    assert read(FILE, size=size) == (HEAD, [change for page in PAGES for change in page])


def test_a_stored_sample_of_format_1_is_still_read_and_still_written() -> None:
    assert SAMPLE.read_bytes() == FILE


def test_a_stored_sample_of_format_2_which_has_powers_is_read_and_written() -> None:
    writer = SnapshotWriter(DIGESTER, HEAD_3, "random-text-of-a-file")
    made = b"".join([writer.begin(), *writer.add(POWERED), writer.end()])
    assert made.startswith(b"keywright snapshot 2 ")
    assert read(made) == (HEAD_3, POWERED)
    assert SAMPLE.with_name("snapshot-2.bin").read_bytes() == made


@pytest.mark.parametrize(("head", "claimed"), [(HEAD, 2), (HEAD_3, 1)], ids=["newer", "older"])
def test_a_file_whose_first_line_claims_another_format_than_its_rows_is_refused(
    head: SnapshotHead, claimed: int
) -> None:
    data = b"".join(parts(head)).replace(b"snapshot %d " % (3 - claimed), b"snapshot %d " % claimed, 1)
    with pytest.raises(SnapshotFileError, match="first line was changed"):
        read(data)


@pytest.mark.parametrize("bit", [1, 128])
def test_a_file_with_any_bit_of_any_byte_flipped_is_refused(bit: int) -> None:
    for place in range(len(FILE)):
        with pytest.raises(SnapshotFileError):
            read(FILE[:place] + bytes([FILE[place] ^ bit]) + FILE[place + 1 :])


def test_a_file_cut_short_anywhere_is_refused() -> None:
    for length in range(len(FILE)):
        with pytest.raises(SnapshotFileError):
            read(FILE[:length])


@pytest.mark.parametrize("more", [b"\0", b"\n", parts()[-1], FILE], ids=["byte", "line", "end-again", "file-again"])
def test_a_file_with_something_behind_its_end_is_refused(more: bytes) -> None:
    with pytest.raises(SnapshotFileError):
        read(FILE + more)


@pytest.mark.parametrize(
    "order", [(0, 2, 1, 3, 4), (0, 1, 3, 4), (0, 1, 1, 2, 3, 4), (0, 4), (0, 1, 2, 3), (1, 2, 3, 4), (0, 1, 2, 4, 3)]
)
def test_a_file_whose_parts_were_moved_left_out_or_repeated_is_refused(order: tuple[int, ...]) -> None:
    made = parts()
    with pytest.raises(SnapshotFileError):
        read(b"".join(made[place] for place in order))


def test_parts_of_two_files_are_not_one_file() -> None:
    """An older file's page in the place of a newer one's would bring back a revoked key."""
    older = parts(SnapshotHead("dply_1", "everything", NOWHERE, HEAD.made_at, 2), "random-text-of-another")
    for place in range(len(older)):
        made = parts()
        made[place] = older[place]
        with pytest.raises(SnapshotFileError):
            read(b"".join(made))


def test_a_file_of_another_pepper_is_refused_by_name() -> None:
    with pytest.raises(SnapshotFileError, match="another pepper"):
        read(FILE, Digester(bytes(32)))


def test_a_file_that_claims_this_pepper_and_was_made_under_another_is_refused() -> None:
    other = Digester(bytes(32))
    with pytest.raises(SnapshotFileError):
        read(FILE.replace(DIGESTER.pepper_check().encode(), other.pepper_check().encode(), 1), other)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a snapshot"),
        (b"PK\x03\x04 some archive\n", "not a snapshot"),
        (b"keywright snapshot of last week\n", "not a snapshot"),
        (b"x" * 10_000, "not a snapshot"),
        (FILE.replace(b"snapshot 1 ", b"snapshot 3 ", 1), "has format 3; this version reads 1 and 2"),
    ],
    ids=["empty", "archive", "prose", "no-line", "newer"],
)
def test_what_is_no_file_of_this_format_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(SnapshotFileError, match=said):
        read(data)


def test_an_answer_of_the_origin_kept_by_who_held_the_line_is_no_file() -> None:
    signer = FrameSigner(DIGESTER)
    line = FILE[: FILE.index(b"\n") + 1]
    places = (NOWHERE, HEAD.cursor, 42, 1)
    kinds = (FrameKind.PAGE, FrameKind.END)
    frames = [Frame("dply_1", kind, "everything", "n" * 32, n, *places) for n, kind in enumerate(kinds)]
    with pytest.raises(SnapshotFileError, match="origin's answer"):
        read(line + b"".join(signer.encode(frame) for frame in frames))


def test_a_file_is_read_no_further_than_its_reader_is() -> None:
    """However long a file is, its size need not fit into memory."""
    given = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given
        for part in parts():
            given += 1
            yield part

    pages = SnapshotReader(DIGESTER, pieces()).pages()
    seen = [(next(pages), given)[1] for _ in range(3)]
    assert seen == [1, 2, 3]
