"""Reading an answer: held against h11, which is another reader of the same; and what could be read in two ways."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.http.client.answers import LARGEST_HEAD, Answer, BadAnswer, BrokenOff

MOST = 1000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def read(data: bytes, *, ends: bool = False, most_bytes: int = MOST) -> Answer:
    answer = Answer(most_bytes)
    answer.feed(data)
    if ends:
        answer.end()
    return answer


@pytest.mark.parametrize(
    ("data", "body", "may_be_kept"),
    [
        (OK + b"content-length: 2\r\n\r\nab", b"ab", True),
        (OK + b"Content-Length:2 \r\nX:\r\n\r\nab", b"ab", True),
        (OK + b"content-length: 0\r\n\r\n", b"", True),
        (OK + b"content-length: 2\r\nconnection: Close\r\n\r\nab", b"ab", False),
        (OK + b"content-length: 2\r\nconnection: x, close\r\n\r\nab", b"ab", False),
        (OK + b"content-length: 2\r\n\r\nabc", b"ab", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab", b"ab", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nab", b"ab", True),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nab", b"ab", True),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 H\r\nlink: x\r\n\r\n" + OK + b"content-length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (CHUNKED + b"2\r\nab\r\n00A ; x=y\r\n0123456789\r\n0\r\n\r\n", b"ab0123456789", True),
        (CHUNKED + b"0\r\nx-checksum: 1\r\n\r\n", b"", True),
        (CHUNKED + b"1\r\na\r\n0\r\n\r\nHTTP/1.1", b"a", False),
    ],
)  # fmt: skip
def test_an_answer_is_read_whole_in_whatever_pieces_it_comes(data: bytes, body: bytes, may_be_kept: bool) -> None:
    answer = Answer(MOST)
    completed = [answer.feed(data[at : at + 1]) for at in range(len(data))]
    assert completed[-1]
    assert answer.body == read(data).body == body
    assert read(data).may_be_kept is may_be_kept


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answer = Answer(MOST)
    assert not answer.feed(OK + b"\r\nab")
    assert not answer.feed(b"c")
    answer.end()
    assert (answer.body, answer.is_complete, answer.may_be_kept) == (b"abc", True, False)


BAD = {
    "nothing of HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "another version": b"HTTP/1.2 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of two figures": b"HTTP/1.1 20 OK\r\n\r\n",
    "a folded line": OK + b"x: 1\r\n content-length: 2\r\n\r\n",
    "a blank before the colon": OK + b"content-length : 2\r\n\r\nab",
    "no colon": OK + b"content-length\r\n\r\n",
    "no name": OK + b": 2\r\n\r\n",
    "a bare line feed": OK + b"x: 1\ncontent-length: 2\r\n\r\nab",
    "a bare carriage return": OK + b"x: 1\rcontent-length: 2\r\n\r\nab",
    "a zero byte": OK + b"x: \0\r\n\r\n",
    "a length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nab",
    "a length with a sign": OK + b"content-length: +2\r\n\r\nab",
    "a length of no figures": OK + b"content-length: \r\n\r\n",
    "a length in other figures": OK + "content-length: ٢\r\n\r\nab".encode(),
    "another coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
    "a chunk without a length": CHUNKED + b"\r\n",
    "a chunk of a length with a sign": CHUNKED + b"-1\r\n",
    "a chunk that is longer": CHUNKED + b"1\r\nab\r\n",
    "a trailer that is none": CHUNKED + b"0\r\nhello\r\n\r\n",
    "too large by its length": OK + b"content-length: 1001\r\n\r\n",
    "too large by its chunk": CHUNKED + b"3E9\r\n",
    "too large by all its chunks": CHUNKED + (b"1F4\r\n" + b"x" * 500 + b"\r\n") * 3,
    "too large without a length": OK + b"\r\n" + b"x" * 1001,
    "too large a trailer": CHUNKED + b"0\r\n" + b"a: b\r\n" * 300,
    "a head without an end": OK + b"x" * LARGEST_HEAD,
    "a line between chunks without an end": CHUNKED + b"1;" + b"x" * 2000,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_an_answer_that_could_be_read_in_two_ways_or_has_no_end_is_none(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(data)


@pytest.mark.parametrize(
    "data",
    [b"", OK, OK + b"content-length: 2\r\n\r\na", CHUNKED + b"1\r\na\r\n", CHUNKED + b"0\r\n", b"HTTP/1.1 100\r\n\r\n"],
)  # fmt: skip
def test_an_answer_that_was_cut_short_is_none(data: bytes) -> None:
    with pytest.raises(BrokenOff):
        read(data, ends=True)


NAMES = st.sampled_from(["content-length", "transfer-encoding", "connection", "x-other", "Content-Type"])
VALUES = st.sampled_from(["0", "1", "5", "5, 5", "05", "chunked", "CHUNKED", "close", "keep-alive", "", "a b", "\t"])
BODIES = st.sampled_from([b"", b"a", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"1\r\nab\r\n", b"\r\n"])
HEADS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@given(HEADS, BODIES, st.sampled_from([200, 204, 404, 503]), st.sampled_from(["1.1", "1.0"]), st.integers(1, 60))
def test_what_is_read_is_what_another_reader_reads(
    head: list[tuple[str, str]], body: bytes, status: int, version: str, size: int
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in head)
    data = f"HTTP/{version} {status} X\r\n{lines}\r\n".encode() + body
    answer = Answer(MOST)
    try:
        for at in range(0, len(data), size):
            if answer.feed(data[at : at + size]):
                break
        if not answer.is_complete:
            answer.end()
    except (BadAnswer, BrokenOff):
        return
    assert (answer.status, answer.body) == by_h11(data)


def by_h11(data: bytes) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, body = 0, b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
    return status, body
