"""Owns starting a replica from a snapshot file, and saying what such a file holds. Its form: protocol/snapshot_file.py.

The file is read once, piece by piece, into one transaction of the replica: a file that turns out to be damaged at its
very last byte has changed nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.domain.models import from_millis, to_iso
from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, KeyPut
from keywright.protocol.snapshot_file import SnapshotFileError, SnapshotHead, SnapshotReader

if TYPE_CHECKING:
    from pathlib import Path

    from keywright.domain.keyformat import Digester
    from keywright.edge.replica.freshness import SyncClock
    from keywright.edge.replica.origin_clock import OriginClock
    from keywright.edge.replica.replica import Replica

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Contents:
    """What a whole file holds, of what a reader of the API would count."""

    head: SnapshotHead
    buckets: int
    consumers: int
    keys: int
    with_powers: int
    """Keys and consumers, of those, that can do more than be good."""


def examine(path: Path, digester: Digester) -> Contents:
    """Reads the whole file. Raises SnapshotFileError."""
    counts: dict[type[Change], int] = {}
    with_powers = 0
    hidden: set[int] = set()
    """The bucket of the management keys, which nobody sees among the buckets. It comes before what is in it."""
    with _opened(path, digester) as reader:
        for page in reader.pages():
            for change in page:
                match change:
                    case BucketPut(name=name, number=number) if name == SYSTEM_BUCKET:
                        hidden.add(number)
                    case ConsumerPut(bucket_number=number) | KeyPut(bucket_number=number) if number in hidden:
                        pass
                    case _:
                        counts[type(change)] = counts.get(type(change), 0) + 1
                        with_powers += isinstance(change, ConsumerPut | KeyPut) and change.powers is not None
        buckets, consumers, keys = (counts.get(kind, 0) for kind in (BucketPut, ConsumerPut, KeyPut))
        return Contents(reader.head, buckets, consumers, keys, with_powers)


def load(path: Path, digester: Digester, replica: Replica, sync_clock: SyncClock, origin_clock: OriginClock) -> str:
    """Fills the replica from the file, unless it holds something newer or something else; says which it was.

    From then on it is as old as the file is, and the origin's clock is no earlier than when that was made.
    Raises SnapshotFileError. To be called by whoever follows into the replica.
    """
    with _opened(path, digester) as reader:
        head = reader.head
        record = f"{head.deployment_id}/{head.scope}"
        held, cursor = replica.deployment_id, replica.cursor
        made = f"of revision {head.cursor.revision}, made {to_iso(from_millis(head.made_at))}"
        if cursor is not None and held != record:
            return f"the snapshot file ({made}) is ignored: the replica is of another record or token ({held})"
        if cursor is not None and not cursor.may_become(head.cursor):
            return f"the snapshot file ({made}) is ignored: the replica is at revision {cursor.revision}, and not older"
        changes = (change for page in reader.pages() for change in page)
        replica.load(record, digester.pepper_check(), head.cursor, changes)
        origin_clock.hear_least(head.made_at)
        sync_clock.advance_to_wall(head.made_at / 1000)
        return f"the replica was filled from the snapshot file ({made})"


@contextlib.contextmanager
def _opened(path: Path, digester: Digester) -> Iterator[SnapshotReader]:
    """Raises SnapshotFileError, with the file's name, for all that can be wrong with it."""
    try:
        with path.open("rb") as file:
            yield SnapshotReader(digester, iter(lambda: file.read(PIECE_BYTES), b""))
    except SnapshotFileError as error:
        raise SnapshotFileError(f"{path}: {error}") from error
    except OSError as error:
        raise SnapshotFileError(f"{path} can't be read: {(error.strerror or str(error)).lower()}") from error
