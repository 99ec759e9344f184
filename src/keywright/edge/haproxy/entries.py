"""Owns how records are written into HAProxy's maps.

buckets     name                    -> number
keys        bucket's number.digest  -> key id | consumer's number | end in milliseconds
consumers   number                  -> consumer id | name | metadata, percent-encoded
blocks      consumer's number       -> 1: whatever else the maps say of its keys, there is no answer now
state       lease, lease3, at       -> milliseconds since the epoch, twice; deployment:cursor

Beside the first three there is one each for what has powers (powered.py), under the same names; `lease3` is for these.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from keywright.edge.haproxy import powered
from keywright.edge.haproxy.socket import Entry, Map
from keywright.edge.replica import records

if TYPE_CHECKING:
    from keywright.edge.haproxy.socket import Write
    from keywright.protocol.changes import BucketPut, ConsumerPut, KeyPut

_log = logging.getLogger(__name__)

NEVER = 9_999_999_999_999
"""The end of a key that has none: in the year 2286."""
MAX_VALUE_BYTES = 12_000
"""HAProxy takes a command, and passes a request on, only in a buffer of 16 kB."""
TOO_LONG = "-"
TWINS = {Map.CONSUMERS: Map.CONSUMERS3, Map.KEYS: Map.KEYS3}


def key_entry(bucket_number: int, digest: str) -> Entry:
    """`digest` as hexadecimal digits."""
    return Entry(Map.KEYS, f"{bucket_number}.{digest}")


def consumer_entry(number: int) -> Entry:
    return Entry(Map.CONSUMERS, str(number))


def bucket_entry(name: str) -> Entry:
    return Entry(Map.BUCKETS, name)


def default_scopes_entry(bucket_number: int) -> Entry:
    return Entry(Map.BUCKETS3, str(bucket_number))


def default_scopes_write(put: BucketPut) -> Write:
    return default_scopes_entry(put.number), powered.scopes_value(put.default_scopes)


def swept_entry(name: bytes, *, is_keys: bool) -> Entry:
    """The entry of a row that the replica had under this name."""
    if not is_keys:
        return consumer_entry(records.unpack_number(name))
    split = records.BUCKET_NUMBER_BYTES
    return key_entry(records.unpack_number(name[:split]), name[split:].hex())


def twin(entry: Entry) -> Entry:
    """The same record's place in the map of what has powers."""
    return Entry(TWINS[entry.map], entry.name)


def key_values(put: KeyPut, now: int) -> tuple[str | None, str | None]:
    """The value among keys, and among those with powers. Twice None for a key that has ended: HAProxy answers for one
    that it does not know as for one that has ended.
    """
    if put.expires_at is not None and put.expires_at <= now:
        return None, None
    place = f"{put.key_id}|{put.consumer_number}|{NEVER if put.expires_at is None else put.expires_at}"
    return (place, None) if put.powers is None else (None, powered.append(place, put.powers, powered.ALL))


def consumer_values(put: ConsumerPut) -> tuple[str | None, str | None]:
    """The value among consumers, and among those with powers."""
    value = f"{put.consumer_id}|{put.name}|{quote(put.metadata, safe='')}"
    if put.powers is not None:
        value = powered.append(value, put.powers, powered.INHERITED)
    if len(value) > MAX_VALUE_BYTES:
        # A consumer without its metadata would be another one to the API, so its keys are refused.
        _log.error("consumer %s is refused by HAProxy: its metadata is too long", put.consumer_id)
        value = TOO_LONG
    return (value, None) if put.powers is None else (None, value)
