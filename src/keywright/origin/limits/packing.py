"""Owns how a member of the ledger is packed into one row, for the other processes of the origin and for the next start.

A JSON array in one line, then 29 bytes for each holding (id, held, ceiling, told, whether the latest answer told it),
then 29 for each use (id, units a second, limit, window, whether it is short).
"""

from __future__ import annotations

import json
import struct

from keywright.origin.limits.members import Holding, Member
from keywright.protocol.shares import Use

_HOLDING, _USE = struct.Struct(">16sIIIB"), struct.Struct(">16sfIIB")
_NOTHING = 2**32 - 1
"""Stands for no share that was told."""


def pack(member: Member) -> bytes:
    fallback = member.fallback
    line = [
        member.heard_at - member.sure_at,
        None if member.buckets is None else sorted(member.buckets),
        [member.start, member.number, member.answer, member.is_whole],
        [fallback.held, fallback.ceiling, fallback.told, fallback.is_sent],
        len(member.holdings),
    ]
    holdings = [
        _HOLDING.pack(id, one.held, one.ceiling, _NOTHING if one.told is None else one.told, one.is_sent)
        for id, one in member.holdings.items()
    ]
    uses = [_USE.pack(id, use.rate, use.limit, use.window_seconds, use.is_short) for id, use in member.uses.items()]
    return b"".join((json.dumps(line, separators=(",", ":")).encode(), b"\n", *holdings, *uses))


def unpack(body: bytes, now: float, *, is_fresh: bool) -> Member:
    """`is_fresh`: another process has heard it since. Raises ValueError for what no known version has packed."""
    line, _, packed = body.partition(b"\n")
    try:
        unsure, buckets, (start, number, answer, is_whole), fallback, count = json.loads(line)
        member = Member(
            now,
            now - unsure,
            None if buckets is None else frozenset(buckets),
            start,
            number,
            answer,
            Holding(*fallback),
            is_fresh=is_fresh,
            is_whole=is_whole,
            has_grown=False,
        )
        end = count * _HOLDING.size
        for id, held, ceiling, told, is_sent in _HOLDING.iter_unpack(packed[:end]):
            member.holdings[id] = Holding(held, ceiling, None if told == _NOTHING else told, bool(is_sent))
        for id, rate, limit, seconds, is_short in _USE.iter_unpack(packed[end:]):
            member.uses[id] = Use(rate, bool(is_short), limit, seconds)
    except (struct.error, TypeError, LookupError) as error:
        raise ValueError("not a member of the ledger") from error
    return member
