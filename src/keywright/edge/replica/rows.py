"""Owns how rows are found in a transaction: keys and consumers with or without powers, the cursor, what is garbage.

Whoever reads or writes the files goes by these; what a row holds is in records.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keywright.domain.powers import UnknownPower
from keywright.edge.replica import records
from keywright.protocol.changes import Cursor

if TYPE_CHECKING:
    from keywright.edge.replica.files import Files
    from keywright.protocol.changes import ConsumerPut, KeyPut, PlanPut


def read_cursor(files: Files, tx: Any, pepper_check: str) -> Cursor | None:
    """The cursor as this transaction sees it; None as for `ReplicaReader.cursor`."""
    revision = tx.get(b"revision", db=files.meta)
    if revision is None or tx.get(b"pepper", db=files.meta) != pepper_check.encode():
        return None
    return Cursor(records.unpack_number(revision), *records.decode_stamp(tx.get(b"stamp", b"", db=files.meta)))


FILE_FEATURES: frozenset[str] = frozenset()
"""What a reader must know of these files beyond their format: nothing, so far."""


def check_features(files: Files, tx: Any) -> None:
    """Raise UnknownPower when the files need more of whoever judges by them than this version knows."""
    kept = tx.get(b"features", db=files.meta)
    if kept is not None and not FILE_FEATURES.issuperset(json.loads(kept)):
        raise UnknownPower(f"files with features that this version does not know: {kept.decode()}")


def find_consumer(files: Files, tx: Any, number: bytes) -> tuple[bytes | None, bool]:
    """The consumer's row under this number, if there is one, and whether it is one with powers."""
    found = tx.get(number, None, files.consumers)
    if found is not None or not files.has_powers:
        return found, False
    return tx.get(number, None, files.consumers3), True


def find_key_put(files: Files, tx: Any, name: bytes) -> KeyPut | None:
    """The key of this name (bucket number, digest) as it was put, with powers that this version may not know."""
    kept = tx.get(name, None, files.keys)
    if kept is not None:
        return records.key_put(name, records.checked(name, kept))
    kept = tx.get(name, None, files.keys3) if files.has_powers else None
    return None if kept is None else records.key_put3(name, records.checked(name, kept))


def find_consumer_put(files: Files, tx: Any, number: bytes) -> ConsumerPut | None:
    """The consumer of this number as it was put, with powers that this version may not know."""
    kept, has_powers = find_consumer(files, tx, number)
    if kept is None:
        return None
    decode = records.consumer_put3 if has_powers else records.consumer_put
    return decode(number, records.checked(number, kept))


def find_default_scopes(files: Files, tx: Any, bucket_number: int) -> frozenset[str]:
    """What the bucket of this number grants to consumers of which nothing is said."""
    number = records.pack_bucket_number(bucket_number)
    kept = tx.get(number, None, files.buckets3) if files.has_powers else None
    return frozenset() if kept is None else records.decode_default_scopes(records.checked(number, kept))


def find_plan_put(files: Files, tx: Any, bucket_number: int, number: int) -> PlanPut | None:
    """The plan of this number as it was put, with powers that this version may not know."""
    name = records.plan_name(bucket_number, number)
    kept = None if files.plans3 is None else tx.get(name, None, files.plans3)
    return None if kept is None else records.plan_put(name, records.checked(name, kept))


def is_garbage(files: Files, tx: Any, db: Any, name: bytes, value: bytes) -> bool:
    """Whether a row of consumers or keys can't be reached any more: its bucket or its consumer was deleted."""
    is_key = db is files.keys or db is files.keys3
    bucket = (name if is_key else value)[: records.BUCKET_NUMBER_BYTES]
    if tx.get(bucket, db=files.bucket_names) is None:
        return True
    if not is_key:
        return False
    owner, _ = find_consumer(files, tx, value[:8])
    return owner is None or owner[: records.BUCKET_NUMBER_BYTES] != bucket
