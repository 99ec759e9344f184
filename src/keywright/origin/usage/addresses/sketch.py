"""Owns estimating how many different texts there were, in at most 2 KiB that can be merged: HyperLogLog.

2,048 registers, so the standard error is 1.04 / sqrt(2,048) = 2.3 %, and a hash of 64 bits, so there is no largest
number. The estimate is the improved one of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
(2017), section 3.3: unbiased over the whole range, with no tables and no switch to another method for few.
"""

from __future__ import annotations

import math
from hashlib import blake2b

PRECISION = 11
REGISTERS = 1 << PRECISION
STANDARD_ERROR = 1.04 / math.sqrt(REGISTERS)
_BITS = 64 - PRECISION
_SPARSE, _DENSE = b"\x01", b"\x02"
_ENTRY_BYTES = 3


class Sketch:
    """Of no text at first. Two that saw the same texts are alike, in whatever order and however often they did."""

    __slots__ = ("_ranks",)

    def __init__(self) -> None:
        # Those that aren't 0: there are few where there were few texts.
        self._ranks: dict[int, int] = {}

    def add(self, text: str) -> None:
        number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
        # The place of the first bit that is set behind those that name the register, from 1 on.
        rank = _BITS + 1 - (number & ((1 << _BITS) - 1)).bit_length()
        self._raise_to(number >> _BITS, rank)

    def merge(self, other: Sketch) -> None:
        """Afterwards it is what it would be if it had seen the other's texts as well."""
        for register, rank in other._ranks.items():
            self._raise_to(register, rank)

    def estimate(self) -> int:
        """How many different texts it saw."""
        counts = [0] * (_BITS + 2)
        counts[0] = REGISTERS - len(self._ranks)
        for rank in self._ranks.values():
            counts[rank] += 1
        if counts[0] == REGISTERS:
            return 0
        sum_ = REGISTERS * _tau(1 - counts[_BITS + 1] / REGISTERS)
        for count in reversed(counts[1 : _BITS + 1]):
            sum_ = (sum_ + count) / 2
        sum_ += REGISTERS * _sigma(counts[0] / REGISTERS)
        return round(REGISTERS * REGISTERS / (2 * math.log(2) * sum_))

    def encode(self) -> bytes:
        """At most 2,049 bytes, 3 for each text while there are few."""
        if len(self._ranks) * _ENTRY_BYTES < REGISTERS:
            entries = (register.to_bytes(2, "big") + bytes([rank]) for register, rank in sorted(self._ranks.items()))
            return _SPARSE + b"".join(entries)
        return _DENSE + bytes(self._ranks.get(register, 0) for register in range(REGISTERS))

    @classmethod
    def decode(cls, data: bytes) -> Sketch:
        """What `encode` wrote. Raises ValueError."""
        sketch, body = cls(), data[1:]
        if data[:1] == _SPARSE and len(body) % _ENTRY_BYTES == 0:
            for at in range(0, len(body), _ENTRY_BYTES):
                sketch._set(int.from_bytes(body[at : at + 2], "big"), body[at + 2])
        elif data[:1] == _DENSE and len(body) == REGISTERS:
            for register, rank in enumerate(body):
                if rank:
                    sketch._set(register, rank)
        else:
            raise ValueError("not a sketch")
        return sketch

    def _set(self, register: int, rank: int) -> None:
        if register >= REGISTERS or not 1 <= rank <= _BITS + 1:
            raise ValueError("not a sketch")
        self._ranks[register] = rank

    def _raise_to(self, register: int, rank: int) -> None:
        if rank > self._ranks.get(register, 0):
            self._ranks[register] = rank


def _sigma(part: float) -> float:
    """Of the part of registers that are 0, which is less than 1."""
    weight, total, before = 1.0, part, -1.0
    while total != before:
        part *= part
        before = total
        total += part * weight
        weight += weight
    return total


def _tau(part: float) -> float:
    """Of the part of registers that are not full."""
    if part in {0.0, 1.0}:
        return 0.0
    weight, total, before = 1.0, 1 - part, -1.0
    while total != before:
        part = math.sqrt(part)
        before = total
        weight *= 0.5
        total -= (1 - part) ** 2 * weight
    return total / 3
