"""The one table of key states, and what each of them must come to at every endpoint.

An Endpoint puts a question its own way and gives back an Outcome; one that has no headers leaves the rows of headers
out. New endpoints (gateways, the policy) are added to the list in test_endpoints.py or test_policy.py, new states here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from keywright.domain import keyformat
from keywright.protocol.changes import BucketDelete, ConsumerDelete

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

BUCKET = "my-bucket"
METADATA = '{"testId":"1234","name":"Zoë"}'
LARGE_METADATA = '{"names":"' + "é" * 506 + '"}'
"""As large as metadata may be (1 KiB), of what grows most on its way through headers and tokens."""
Headers = list[tuple[bytes, bytes]]


def _secret(fill: int) -> str:
    return keyformat.generate("zpka", lambda n: bytes([fill]) * n).reveal()


VALID, EXPIRING, EXPIRED, FOREIGN, ORPHAN, HOMELESS, ROLLED, SUCCESSOR, NEVER_MADE, LARGE, TOKEN = (
    _secret(n) for n in range(1, 12)
)
CUSTOM = "my:own/key!{0}?"
BAD_CHECKSUM = VALID[:-1] + ("0" if VALID[-1] != "0" else "1")


@dataclass(frozen=True)
class Outcome:
    """`code` is the verdict's, or MISSING or AMBIGUOUS where an endpoint refuses before there is a key to judge."""

    code: str
    consumer: str | None = None


@dataclass(frozen=True)
class Row:
    """A key, or the raw headers of a request, and what comes of it."""

    name: str
    expected: Outcome
    secret: str = ""
    headers: Headers | None = None
    bucket: str = BUCKET


class Endpoint(Protocol):
    name: str
    has_headers: bool

    async def ask(self, row: Row) -> Outcome: ...


def fill(replica: Replica, *, now: int = NOW, still: int = 1) -> None:
    """Bring a replica into the state that the table speaks of, by a snapshot and the changes after it.

    `still` is how many milliseconds the key that is about to expire has left: more where the clock is another.
    """
    replica.load(
        "dep_1",
        PEPPER_CHECK,
        at(0),
        [
            bucket(1, BUCKET),
            bucket(2, "other-bucket"),
            bucket(3, "gone-bucket"),
            bucket(4, "_system", None),
            consumer(1, 1, "my-consumer", METADATA),
            consumer(2, 1, "deleted-consumer"),
            consumer(3, 2, "other-consumer"),
            consumer(4, 3, "homeless-consumer"),
            consumer(5, 4, "root", '{"account":"acct_1","permissions":{"account":"write"},"root":true}'),
            consumer(6, 1, "large-consumer", LARGE_METADATA),
            key(VALID, 1, 1),
            key(LARGE, 1, 6),
            key(EXPIRING, 1, 1, now + still),
            key(EXPIRED, 1, 1, now),
            key(FOREIGN, 2, 3),
            key(ORPHAN, 1, 2),
            key(HOMELESS, 3, 4),
            key(ROLLED, 1, 1),
            key(CUSTOM, 1, 1),
            key(TOKEN, 4, 5),
        ],
    )
    # A roll makes a new key, and gives the old one an end.
    rolled = [key(SUCCESSOR, 1, 1), key(ROLLED, 1, 1, now)]
    replica.apply(batch(0, [ConsumerDelete(2), BucketDelete(3), *rolled]))


_OK = Outcome("VALID", "my-consumer")
ROWS = [
    Row("valid", _OK, VALID),
    Row("valid for one more millisecond", _OK, EXPIRING),
    Row("expired this millisecond", Outcome("EXPIRED"), EXPIRED),
    Row("malformed", Outcome("MALFORMED"), "short"),
    Row("bad checksum", Outcome("MALFORMED"), BAD_CHECKSUM),
    Row("unknown", Outcome("UNKNOWN"), NEVER_MADE),
    Row("unknown text of custom format", Outcome("UNKNOWN"), "nobody-has-this"),
    Row("of another bucket", Outcome("UNKNOWN"), FOREIGN),
    Row("valid in that other bucket", Outcome("VALID", "other-consumer"), FOREIGN, bucket="other-bucket"),
    Row("consumer deleted", Outcome("UNKNOWN"), ORPHAN),
    Row("bucket deleted", Outcome("NO_BUCKET"), HOMELESS, bucket="gone-bucket"),
    Row("the system bucket", Outcome("NO_BUCKET"), VALID, bucket="_system"),
    Row("no such bucket, malformed", Outcome("NO_BUCKET"), "short", bucket="nowhere"),
    Row("rolled, old", Outcome("EXPIRED"), ROLLED),
    Row("rolled, new", _OK, SUCCESSOR),
    Row("custom format", _OK, CUSTOM),
    Row("metadata as large as it may be", Outcome("VALID", "large-consumer"), LARGE),
    Row("not ASCII", Outcome("MALFORMED"), "zpka_Zoë-and-more"),
    Row("a space inside", Outcome("MALFORMED"), "zpka_with a space"),
    Row("513 characters", Outcome("MALFORMED"), "x" * 513),
    Row("no header", Outcome("MISSING"), headers=[]),
    Row("no header, no bucket", Outcome("NO_BUCKET"), headers=[], bucket="nowhere"),
    Row("wrong scheme", Outcome("MISSING"), headers=[(b"authorization", b"Basic " + VALID.encode())]),
    Row("scheme alone", Outcome("MISSING"), headers=[(b"authorization", b"Bearer")]),
    Row("scheme glued to the key", Outcome("MISSING"), headers=[(b"authorization", b"Bearer" + VALID.encode())]),
    Row("scheme in other case", _OK, headers=[(b"authorization", b"bEaReR " + VALID.encode())]),
    Row("two spaces", _OK, headers=[(b"authorization", b"Bearer  " + VALID.encode())]),
    Row("many spaces and some behind", _OK, headers=[(b"authorization", b"Bearer     " + VALID.encode() + b"   ")]),
    Row("spaces alone", Outcome("MISSING"), headers=[(b"authorization", b"Bearer    ")]),
    Row("another word behind", Outcome("MALFORMED"), headers=[(b"authorization", b"Bearer " + VALID.encode() + b" x")]),
    Row("a tab", Outcome("MALFORMED"), headers=[(b"authorization", b"Bearer \t" + VALID.encode())]),
    Row("two headers", Outcome("AMBIGUOUS"), headers=[(b"authorization", b"Bearer " + VALID.encode())] * 2),
    Row("100 kB header", Outcome("MALFORMED"), headers=[(b"authorization", b"Bearer " + b"x" * 100_000)]),
    Row("not ASCII header", Outcome("MALFORMED"), headers=[(b"authorization", b"Bearer \xff\xfe" + VALID.encode())]),
]
assert len(LARGE_METADATA.encode()) == 1024
assert DIGESTER.digest(VALID) != DIGESTER.digest(BAD_CHECKSUM)
