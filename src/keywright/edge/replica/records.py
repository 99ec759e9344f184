"""Owns how records are laid out in the replica's files: encode and decode, and nothing of LMDB.

Records are kept apart and small. A key is 36 bytes of name (bucket number, digest) and 32 of value (consumer number, id
without its prefix), 8 more if it expires; numbers are big-endian, so that the order of bytes is the order of numbers.
Behind each value stands a checksum of name and value: LMDB has none, and a disk may err.

A record with powers stands in a database of its own, which readers of format 2 do not open: they would take whatever
followed a key's id for its expiry, and find the key good.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

from keywright.domain.models import IdKind
from keywright.domain.permissions import Access
from keywright.domain.powers import NO_POWERS, Powers, decode_powers
from keywright.domain.scopes import Scopes
from keywright.domain.verdict import ConsumerRecord, KeyRecord
from keywright.protocol.changes import STAMP_BYTES, BucketPut, ConsumerPut, KeyPut, PlanPut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keywright.protocol.changes import Cursor

KEY_PREFIX = f"{IdKind.KEY}_"
CONSUMER_PREFIX = f"{IdKind.CONSUMER}_"
BUCKET_NUMBER_BYTES = 4
ID_LENGTH = 24
CHECK_BYTES = 4
_KEY_LENGTH = 8 + ID_LENGTH
_STAMP_LENGTH = 8 + 2 * STAMP_BYTES
_KEY = struct.Struct(f">Q{ID_LENGTH}s")
_KEY3 = struct.Struct(f">Q{ID_LENGTH}sQ")
_NEVER = 2**64 - 1
_CONSUMER_HEAD = struct.Struct(f">4x{ID_LENGTH}sB")
# Half the time of the named tuples' own constructors, which are Python functions around this one.
_new = tuple.__new__
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

pack_bucket_number = _U32.pack
pack_number = _U64.pack


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """What a replica knows of a bucket. `prefix` is its number as the keys' names begin with it."""

    number: int
    bucket_id: str
    name: str
    account_id: str | None
    grants: Mapping[str, Access] = field(default_factory=dict)
    refuse_after: int | None = None
    default_scopes: Scopes | None = None
    features: frozenset[str] = frozenset()

    @property
    def has_powers(self) -> bool:
        """Whether a key of it may have powers, or a consumer inherit some."""
        return bool(self.features) or self.default_scopes is not None

    @property
    def prefix(self) -> bytes:
        return pack_bucket_number(self.number)


DEFAULTS_KEPT = 1_000


def unpack_number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def with_check(name: bytes, value: bytes) -> bytes:
    """The value as it is kept under this name."""
    return value + _U32.pack(crc32(value, crc32(name)))


def checked(name: bytes, kept: bytes) -> bytes:
    """The value, if it and its name are what was written. Raises ValueError."""
    value = kept[:-CHECK_BYTES]
    if kept[-CHECK_BYTES:] != _U32.pack(crc32(value, crc32(name))):
        raise ValueError("a record is not as it was written")
    return value


def encode_bucket(put: BucketPut) -> bytes:
    grants = {account_id: access.label for account_id, access in put.grants.items()}
    row = [put.number, put.bucket_id, put.account_id, grants, put.refuse_after]
    return json.dumps(row, separators=(",", ":")).encode()


def decode_bucket(name: str, value: bytes) -> BucketRecord:
    # What an earlier version wrote ends with the grants.
    number, bucket_id, account_id, grants, *rest = json.loads(value)
    held = {account: Access.of(access) for account, access in grants.items()}
    return BucketRecord(number, bucket_id, name, account_id, held, *rest)


def encode_bucket3(put: BucketPut) -> bytes:
    return json.dumps([list(put.default_scopes), list(put.features)], separators=(",", ":")).encode()


def with_bucket3(record: BucketRecord, value: bytes) -> BucketRecord:
    """The bucket with what stands apart from it, for readers of format 2: what its keys may have, and inherit."""
    scopes, features = json.loads(value)
    return replace(record, default_scopes=_scopes_of(*scopes) if scopes else None, features=frozenset(features))


@lru_cache(maxsize=DEFAULTS_KEPT)
def _scopes_of(*names: str) -> Scopes:
    """The same object for the same scopes: what is kept by it stays valid when the bucket is read anew."""
    return Scopes(names)


def decode_default_scopes(value: bytes) -> frozenset[str]:
    return frozenset(json.loads(value)[0])


def read_bucket(name: bytes, kept: bytes) -> BucketRecord:
    """The bucket that is kept under this name. Raises ValueError if it is not as it was written."""
    return decode_bucket(name.decode(), checked(name, kept))


def encode_consumer(put: ConsumerPut) -> bytes:
    name = put.name.encode()
    return b"%b%b%c%b%b" % (
        pack_bucket_number(put.bucket_number),
        _bare_id(put.consumer_id, CONSUMER_PREFIX),
        len(name),
        name,
        put.metadata.encode(),
    )


def decode_consumer(value: bytes) -> ConsumerRecord:
    """The record, without its bucket's number, which is the first four bytes."""
    bare_id, length = _CONSUMER_HEAD.unpack_from(value)
    end = 29 + length
    return _new(ConsumerRecord, (CONSUMER_PREFIX + bare_id.decode(), value[29:end].decode(), value[end:], None))


def encode_key(put: KeyPut) -> bytes:
    value = pack_number(put.consumer_number) + _bare_id(put.key_id, KEY_PREFIX)
    return value if put.expires_at is None else value + pack_number(max(put.expires_at, 0))


def decode_key(value: bytes) -> KeyRecord:
    expires_at = None
    if len(value) > _KEY_LENGTH:
        value, expires_at = value[:_KEY_LENGTH], unpack_number(value[_KEY_LENGTH:])
    number, bare_id = _KEY.unpack(value)
    return _new(KeyRecord, (KEY_PREFIX + bare_id.decode(), number, expires_at, None))


def encode_key3(put: KeyPut) -> bytes:
    expires_at = _NEVER if put.expires_at is None else max(put.expires_at, 0)
    value = pack_number(put.consumer_number) + _bare_id(put.key_id, KEY_PREFIX) + pack_number(expires_at)
    return value + (put.powers or "").encode()


def decode_key3(value: bytes) -> KeyRecord:
    """The key with its powers. Raises UnknownPower."""
    number, bare_id, expires_at = _KEY3.unpack_from(value)
    until = None if expires_at == _NEVER else expires_at
    return _new(KeyRecord, (KEY_PREFIX + bare_id.decode(), number, until, decode_powers(value[_KEY3.size :])))


def encode_consumer3(put: ConsumerPut) -> bytes:
    powers = (put.powers or "").encode()
    return b"%b%b%b" % (encode_consumer(put), powers, _U32.pack(len(powers)))


def decode_consumer3(value: bytes) -> ConsumerRecord:
    """The consumer with its powers. Raises UnknownPower."""
    plain, powers = _split_consumer3(value)
    return decode_consumer(plain)._replace(powers=decode_powers(powers))


def plan_name(bucket_number: int, number: int) -> bytes:
    """Under which a plan is kept: that of another bucket is not found."""
    return pack_bucket_number(bucket_number) + pack_number(number)


def encode_plan(put: PlanPut) -> bytes:
    row = [put.plan_id, put.name, put.powers]
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()


def decode_plan(value: bytes) -> Powers:
    """What the plan says. Raises UnknownPower."""
    powers = json.loads(value)[2]
    return NO_POWERS if powers is None else decode_powers(powers)


def plan_put(name: bytes, value: bytes) -> PlanPut:
    bucket, number = name[:BUCKET_NUMBER_BYTES], name[BUCKET_NUMBER_BYTES:]
    plan_id, plan, powers = json.loads(value)
    return PlanPut(unpack_number(number), plan_id, unpack_number(bucket), plan, powers)


def encode_stamp(cursor: Cursor) -> bytes:
    return pack_number(cursor.stamped_at) + cursor.stamp.encode()


def decode_stamp(value: bytes) -> tuple[str, int]:
    """The stamp and its time; nothing stands for no stamp, as versions before stamps left it."""
    if value and len(value) != _STAMP_LENGTH:
        raise ValueError("a stamp of another length")
    return value[8:].decode(), unpack_number(value[:8])


def bucket_put(record: BucketRecord) -> BucketPut:
    return BucketPut(
        record.number,
        record.bucket_id,
        record.name,
        record.account_id,
        record.grants,
        record.refuse_after,
        tuple(sorted(record.default_scopes.names)) if record.default_scopes else (),
        tuple(sorted(record.features)),
    )


def consumer_put(name: bytes, value: bytes) -> ConsumerPut:
    record = decode_consumer(value)
    bucket_number = unpack_number(value[:BUCKET_NUMBER_BYTES])
    return ConsumerPut(
        unpack_number(name), record.consumer_id, bucket_number, record.name, bytes(record.metadata).decode()
    )


def key_put(name: bytes, value: bytes) -> KeyPut:
    record = decode_key(value)
    bucket_number = unpack_number(name[:BUCKET_NUMBER_BYTES])
    return KeyPut(name[BUCKET_NUMBER_BYTES:], bucket_number, record.consumer_number, record.key_id, record.expires_at)


def consumer_put3(name: bytes, value: bytes) -> ConsumerPut:
    plain, powers = _split_consumer3(value)
    return replace(consumer_put(name, plain), powers=powers.decode())


def key_put3(name: bytes, value: bytes) -> KeyPut:
    number, bare_id, expires_at = _KEY3.unpack_from(value)
    until = None if expires_at == _NEVER else expires_at
    bucket_number = unpack_number(name[:BUCKET_NUMBER_BYTES])
    key_id, powers = KEY_PREFIX + bare_id.decode(), value[_KEY3.size :].decode()
    return KeyPut(name[BUCKET_NUMBER_BYTES:], bucket_number, number, key_id, until, powers)


def _split_consumer3(value: bytes) -> tuple[bytes, bytes]:
    end = len(value) - _U32.size
    start = end - _U32.unpack_from(value, end)[0]
    return value[:start], value[start:end]


def _bare_id(public_id: str, prefix: str) -> bytes:
    bare = public_id.removeprefix(prefix).encode("ascii")
    if len(bare) != ID_LENGTH or not public_id.startswith(prefix):
        raise ValueError(f"not an id of the form {prefix} and {ID_LENGTH} characters")
    return bare
