"""Owns reading one answer of HTTP/1.1 from the bytes of a connection. Pure: it reads and waits for nothing.

It is stricter than it would have to be: what two readers could read in two ways is no answer. Who takes the end of one
answer for somewhere else takes the rest of it for the answer to the next question, which is about another key.
"""

from __future__ import annotations

import re

LARGEST_HEAD = 64 * 1024
_LARGEST_CHUNK_LINE = 1024
_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\0\r\n]*)?")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\0\r\n]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\0\r\n]*)?")
_NO_BODY = (204, 304)


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1, or larger than wanted. Nothing of it is in the text."""


class BrokenOff(Exception):
    """The connection ended before the answer did: whether the question has got there, nobody knows."""


class Answer:
    """One answer, which `feed` reads. `status`, `fields` and `body` are whole once it is complete."""

    __slots__ = (
        "_buffer", "_is_1_0", "_is_until_end", "_left", "_most_bytes", "_parts", "_size", "_step", "body", "fields",
        "is_complete", "may_be_kept", "status",
    )  # fmt: skip

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` is for the body."""
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        """By lower-case name. Values of one name have a comma between."""
        self.body = b""
        self.is_complete = False
        self.may_be_kept = False
        """Whether another question may be asked on the connection."""
        self._most_bytes = most_bytes
        self._buffer = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._step = self._read_head
        self._left = 0
        self._is_until_end = False
        self._is_1_0 = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._buffer or self.status)

    def find(self, name: bytes) -> str | None:
        """The value of a field; `name` is lower-case."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")

    def feed(self, data: bytes) -> bool:
        """Whether the answer is complete. Raises BadAnswer."""
        self._buffer = self._buffer + data if self._buffer else data
        while not self.is_complete and self._step():
            pass
        if self.is_complete and self._buffer:
            # Nobody asked for that.
            self.may_be_kept = False
        return self.is_complete

    def end(self) -> None:
        """The connection has ended. Raises BrokenOff unless that is what completes the answer."""
        if self._is_until_end:
            self._complete()
        elif not self.is_complete:
            raise BrokenOff("the connection ended before the answer did")
        self.may_be_kept = False

    def _read_head(self) -> bool:
        """As all steps do: whether there may be more to read in the buffer."""
        end = self._buffer.find(b"\r\n\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > LARGEST_HEAD:
            raise BadAnswer("its head has no end")
        if end < 0:
            return False
        first, *lines = self._buffer[:end].split(b"\r\n")
        self._buffer = self._buffer[end + 4 :]
        found = _STATUS_LINE.fullmatch(first)
        if found is None:
            raise BadAnswer("it does not begin as one of HTTP/1.1")
        status = int(found[2])
        fields: dict[bytes, bytes] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise BadAnswer("its head is malformed")
            name, value = field[1].lower(), field[2].rstrip(b" \t")
            fields[name] = value if name not in fields else fields[name] + b", " + value
        if status < 200:
            # RFC 9110 section 15.2: more than one may come before the answer. Nothing asks for another protocol here.
            if status == 101:
                raise BadAnswer("it changes to another protocol")
            return True
        self.status, self.fields, self._is_1_0 = status, fields, found[1] == b"0"
        self._begin_body()
        return True

    def _begin_body(self) -> None:
        """RFC 9112 section 6.3."""
        options = self.fields.get(b"connection", b"").lower()
        said = {option.strip() for option in options.split(b",")} if options else ()
        self.may_be_kept = b"close" not in said and (not self._is_1_0 or b"keep-alive" in said)
        coding, length = self.fields.get(b"transfer-encoding"), self.fields.get(b"content-length")
        if coding is not None and (length is not None or self._is_1_0 or coding.lower() != b"chunked"):
            raise BadAnswer("how long it is can be read in two ways")
        if length is not None and _LENGTH.fullmatch(length) is None:
            raise BadAnswer("its length is no number")
        if self.status in _NO_BODY:
            self._complete()
        elif coding is not None:
            self._step = self._read_chunk_line
        elif length is None:
            self._is_until_end, self.may_be_kept = True, False
            self._step = self._read_all
        else:
            self._left = int(length)
            self._count(self._left)
            self._step = self._read_counted

    def _read_counted(self) -> bool:
        if not self._take():
            return False
        self._complete()
        return True

    def _read_all(self) -> bool:
        self._count(len(self._buffer))
        self._parts.append(self._buffer)
        self._buffer = b""
        return False

    def _read_chunk_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise BadAnswer("a chunk has no length")
        self._left = int(found[1], 16)
        self._count(self._left)
        self._step = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        if not self._take():
            return False
        self._step = self._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadAnswer("a chunk is longer than it says")
        self._buffer = self._buffer[2:]
        self._step = self._read_chunk_line
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._size += len(line)
        self._count(0)
        if not line:
            self._complete()
        elif _FIELD.fullmatch(line) is None:
            raise BadAnswer("its trailer is malformed")
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > _LARGEST_CHUNK_LINE:
            raise BadAnswer("a line between chunks has no end")
        if end < 0:
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _take(self) -> bool:
        """Take what is there of `_left` bytes; whether that was all of them."""
        part = self._buffer[: self._left]
        self._buffer = self._buffer[self._left :]
        self._left -= len(part)
        self._parts.append(part)
        return self._left == 0

    def _count(self, more: int) -> None:
        self._size += more
        if self._size > self._most_bytes:
            raise BadAnswer(f"it has more than {self._most_bytes} bytes")

    def _complete(self) -> None:
        self.is_complete = True
        self.body = b"".join(self._parts)
