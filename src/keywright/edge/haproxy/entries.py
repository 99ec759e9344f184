"""Owns how records are written into HAProxy's maps.

buckets     name                    -> number
keys        bucket's number.digest  -> key id | consumer's number | end in milliseconds
consumers   number                  -> consumer id | name | metadata, percent-encoded
blocks      consumer's number       -> 1: whatever else the maps say of its keys, there is no answer now
state       lease, at               -> milliseconds since the epoch; deployment:cursor
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from keywright.edge.haproxy.socket import Entry, Map
from keywright.edge.replica import records

if TYPE_CHECKING:
    from keywright.protocol.changes import ConsumerPut, KeyPut

_log = logging.getLogger(__name__)

NEVER = 9_999_999_999_999
"""The end of a key that has none: in the year 2286."""
MAX_VALUE_BYTES = 12_000
"""HAProxy takes a command, and passes a request on, only in a buffer of 16 kB."""
TOO_LONG = "-"


def key_entry(bucket_number: int, digest: str) -> Entry:
    """`digest` as hexadecimal digits."""
    return Entry(Map.KEYS, f"{bucket_number}.{digest}")


def consumer_entry(number: int) -> Entry:
    return Entry(Map.CONSUMERS, str(number))


def bucket_entry(name: str) -> Entry:
    return Entry(Map.BUCKETS, name)


def swept_entry(name: bytes, *, is_keys: bool) -> Entry:
    """The entry of a row that the replica had under this name."""
    if not is_keys:
        return consumer_entry(records.unpack_number(name))
    split = records.BUCKET_NUMBER_BYTES
    return key_entry(records.unpack_number(name[:split]), name[split:].hex())


def key_value(put: KeyPut, now: int) -> str | None:
    """None for a key that has ended: HAProxy answers for one that it does not know as for one that has ended. And for
    one with powers, which a reader of this map would not judge by them.
    """
    if put.powers is not None or (put.expires_at is not None and put.expires_at <= now):
        return None
    return f"{put.key_id}|{put.consumer_number}|{NEVER if put.expires_at is None else put.expires_at}"


def consumer_value(put: ConsumerPut) -> str | None:
    """None for one with powers: its keys lead nowhere then."""
    if put.powers is not None:
        return None
    value = f"{put.consumer_id}|{put.name}|{quote(put.metadata, safe='')}"
    if len(value) > MAX_VALUE_BYTES:
        # A consumer without its metadata would be another one to the API, so its keys are refused.
        _log.error("consumer %s is refused by HAProxy: its metadata is too long", put.consumer_id)
        return TOO_LONG
    return value
