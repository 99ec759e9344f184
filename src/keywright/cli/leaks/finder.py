"""Owns finding generated keys in a stream of bytes of any size and encoding. scan.py opens files and tells.

A key is known by its checksum, so what stands around it does not matter: what is found is a key, but for one text in
four billion. UTF-16 and UTF-32 are read where they stand, as characters with NULs between them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from keywright.domain.keyformat import (
    MAX_PREFIX_LENGTH,
    MIN_PREFIX_LENGTH,
    PREFIX_PATTERN,
    Secret,
    checksum,
    hint_of,
)
from keywright.domain.text import is_whole

CHUNK_BYTES = 1 << 20
_WIDEST = 4
"""Bytes of a character of UTF-32."""
_MOST_BYTES = _WIDEST * (MAX_PREFIX_LENGTH + 1 + 32 + 1 + 8)
# What all keys have, whatever their prefix. The same number of NULs, 0, 1 or 3, is between all of its characters. Only
# looked at and not consumed: what looks like a key and is none may overlap with one.
_BODY = re.compile(rb"_(?=(\0{3}|\0|)([0-9a-f](?:\1[0-9a-f]){31})\1_\1([0-9a-f](?:\1[0-9a-f]){7}))")


class Readable(Protocol):
    """A file or a pipe, open for bytes."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A key in a stream: where its prefix begins (`line` and `column` from 1, in bytes), and what may be shown of it.

    `fingerprint` is the SHA-256 of its text in hex, by which somebody who knows the key can name it. That tells nothing
    of 128 random bits.
    """

    line: int
    column: int
    prefix: str
    hint: str
    fingerprint: str


def find_keys(stream: Readable, prefixes: Collection[str] = ()) -> Iterator[Found]:
    """The keys in a stream, in their order; with `prefixes` only those that begin with one of them.

    Without, a prefix is the longest that may be one: of `MY_kwak_...` `kwak`, of `my_kwak_...` all.
    """
    held, line, line_at = b"", 1, 0
    base = 0
    """Where `held` begins in the stream, and `line_at` where the line does."""
    while chunk := stream.read(CHUNK_BYTES):
        held += chunk
        searched = counted = 0
        for match in _BODY.finditer(held):
            random, check = (part.replace(b"\0", b"").decode() for part in match.group(2, 3))
            if checksum(random) != check:
                continue
            found = _prefix_before(held, match.start(), 1 + len(match[1]), prefixes)
            if found is None:
                continue
            prefix, start = found
            line, line_at, counted = *_count_lines(held, counted, start, base, line, line_at), start
            text = f"{prefix}_{random}_{check}"
            fingerprint = hashlib.sha256(text.encode()).hexdigest()
            yield Found(line, base + start - line_at + 1, prefix, hint_of(Secret(text)), fingerprint)
            searched = match.end(3)
        kept_from = max(searched, len(held) - _MOST_BYTES)
        line, line_at = _count_lines(held, counted, kept_from, base, line, line_at)
        base += kept_from
        held = held[kept_from:]


def _count_lines(held: bytes, begin: int, end: int, base: int, line: int, line_at: int) -> tuple[int, int]:
    """The number of the line that `end` is in, and where in the stream it begins."""
    newlines = held.count(b"\n", begin, end)
    if newlines:
        line_at = base + held.rindex(b"\n", begin, end) + 1
    return line + newlines, line_at


def _prefix_before(held: bytes, end: int, width: int, prefixes: Collection[str]) -> tuple[str, int] | None:
    """The prefix that ends there, of characters of so many bytes, and where it begins."""
    # In the one byte order the NULs of a character come behind it, in the other those of the next one do.
    text = _characters(held[max(0, end - width * MAX_PREFIX_LENGTH) : end].decode("latin-1"), width)
    for length in range(len(text), MIN_PREFIX_LENGTH - 1, -1):
        prefix = text[-length:]
        if prefix in prefixes if prefixes else is_whole(PREFIX_PATTERN, prefix):
            return prefix, end - width * length
    return None


def _characters(before: str, width: int) -> str:
    """The characters that stand before `_`, `width` bytes each, as far as they are of such."""
    if width == 1:
        return before
    characters: list[str] = []
    for at in range(len(before) - width, -1, -width):
        one = before[at : at + width]
        if one.count("\0") != width - 1:
            break
        characters.append(one.replace("\0", ""))
    return "".join(reversed(characters))
