"""Owns the contract between the planes: what a change is, and how it is written down.

The origin numbers every committed change with a *revision*; an edge applies them in that order. A snapshot is the same
vocabulary: the puts that lead from nothing to a revision. Records are kept apart (key, consumer, bucket), so that new
metadata is one change however many keys a consumer has, and deleting a consumer or a bucket ends all its keys at once.

A change is encoded as one line of JSON: an array whose first item names its kind. `decode` refuses a kind or a shape
that it does not know, with ValueError: a change is understood or refused, never guessed at. So a reader says which
format it reads, and one of before is sent what it can judge: `in_format_2`.

A revision alone does not say which history it is of: a record that was restored from a backup counts on from there. So
the transaction that makes changes draws a *stamp* for them, and a place in a history is a `Cursor`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, assert_never

from keywright.domain.keyformat import DIGEST_BYTES
from keywright.domain.permissions import Access

FORMAT_VERSION = 3
"""Goes up when an older reader could misunderstand what is written, or has kinds of rows that it refuses."""
STAMP_BYTES = 8
_quoted = json.encoder.encode_basestring
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_SHAPES_OF_KEYS = {(str, str, int, int, str, int), (str, str, int, int, str, type(None))}
_SHAPE_OF_CONSUMERS = (str, int, str, int, str, str)
_CURSOR = re.compile(rf"([0-9]{{1,18}})\.([0-9a-f]{{{2 * STAMP_BYTES}}})\.([0-9]{{1,18}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class BucketPut:
    """`refuse_after` is how many seconds a replica may be out of step and still judge its keys; None for ever.

    `default_scopes` are granted to consumers of which none are said. `features` names the powers that its keys or
    consumers have or had: a reader that does not know all of them can't judge its keys.
    """

    number: int
    bucket_id: str
    name: str
    account_id: str | None
    grants: Mapping[str, Access] = field(default_factory=dict)
    refuse_after: int | None = None
    default_scopes: Sequence[str] = ()
    features: Sequence[str] = ()

    @property
    def has_powers(self) -> bool:
        """Whether a key or a consumer of it may have powers, or inherit some."""
        return bool(self.features or self.default_scopes)


@dataclass(frozen=True, slots=True)
class BucketDelete:
    number: int


@dataclass(frozen=True, slots=True)
class PlanPut:
    """A plan of a bucket: its `powers` (scopes, rate limits, quotas) are those of each consumer that has it, where none
    are said of that. They are as domain/powers.py writes them, None for none.
    """

    number: int
    plan_id: str
    bucket_number: int
    name: str
    powers: str | None


@dataclass(frozen=True, slots=True)
class PlanDelete:
    """No consumer has it any more."""

    number: int
    bucket_number: int


@dataclass(frozen=True, slots=True)
class ConsumerPut:
    """`metadata` is a JSON object, encoded without spaces. `powers` are as domain/powers.py writes them, None for none.

    `has_lost_powers` marks the change that takes the last of them away: a reader of format 2, to which the consumer was
    deleted, has its keys no more.
    """

    number: int
    consumer_id: str
    bucket_number: int
    name: str
    metadata: str
    powers: str | None = None
    has_lost_powers: bool = False


@dataclass(frozen=True, slots=True)
class ConsumerDelete:
    number: int


@dataclass(frozen=True, slots=True)
class KeyPut:
    """`expires_at` is in milliseconds since the epoch, None for never; `powers` as for consumers."""

    digest: bytes
    bucket_number: int
    consumer_number: int
    key_id: str
    expires_at: int | None
    powers: str | None = None


@dataclass(frozen=True, slots=True)
class KeyDelete:
    digest: bytes
    bucket_number: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """A change that this reader may not see; it keeps the place of its revision."""


Change = BucketPut | BucketDelete | PlanPut | PlanDelete | ConsumerPut | ConsumerDelete | KeyPut | KeyDelete | Hidden


class Cursor(NamedTuple):
    """A place in a history: two records that have the same cursor share all that led to it.

    That is so because a stamp is random and drawn once, by the transaction that made the revision. `stamped_at` is in
    milliseconds since the epoch; along one history each transaction's is later than the one's before, whatever clocks
    say. The stamp is empty where there is none: before the first change.
    """

    revision: int
    stamp: str
    stamped_at: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that `str` wrote. Raises ValueError."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor: revision.stamp.milliseconds")
        return cls(int(match[1]), match[2], int(match[3]))

    def __str__(self) -> str:
        return f"{self.revision}.{self.stamp}.{self.stamped_at}"

    def may_become(self, other: Cursor) -> bool:
        """Whether a record that is here may be one that has yet to come to `other`.

        If not, it never will: in the history of `other` nothing of a lower revision was stamped as late as this.
        """
        return self.revision < other.revision and self.stamped_at < other.stamped_at


NOWHERE = Cursor(0, "", 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes that lead from one cursor to another, in order, one for each revision: ValueError if there aren't."""

    follows: Cursor
    changes: Sequence[Change]
    cursor: Cursor

    is_newest = True
    """Whether it says anything of the newest change that there is: that it leads to it, or that there are more."""

    def __post_init__(self) -> None:
        if self.cursor.revision != self.follows.revision + len(self.changes):
            raise ValueError("there is not one change for each revision")

    @property
    def revision(self) -> int:
        return self.cursor.revision


def encode(change: Change) -> str:  # noqa: PLR0912
    match change:
        # The two of which there are millions: written by hand, in a fifth of the time.
        case KeyPut():
            place = f"{change.bucket_number:d},{change.consumer_number:d},{_quoted(change.key_id)}"
            expires_at = "null" if change.expires_at is None else f"{change.expires_at:d}"
            if change.powers is not None:
                return f'["key3","{change.digest.hex()}",{place},{expires_at},{_quoted(change.powers)}]'
            return f'["key","{change.digest.hex()}",{place},{expires_at}]'
        case ConsumerPut():
            place = f"{change.number:d},{_quoted(change.consumer_id)},{change.bucket_number:d}"
            text = f"{place},{_quoted(change.name)},{_quoted(change.metadata)}"
            if change.powers is not None or change.has_lost_powers:
                return f'["consumer3",{text},{"null" if change.powers is None else _quoted(change.powers)}]'
            return f'["consumer",{text}]'
        case KeyDelete():
            row: list[Any] = ["-key", change.digest.hex(), change.bucket_number]
        case ConsumerDelete():
            row = ["-consumer", change.number]
        case BucketPut():
            grants = {account_id: access.label for account_id, access in change.grants.items()}
            row = ["bucket", change.number, change.bucket_id, change.name, change.account_id, grants]
            if change.has_powers:
                row = ["bucket3", *row[1:], change.refuse_after, list(change.default_scopes), list(change.features)]
            # As in format 1 where there is nothing new to say: a reader of that format refuses a limit, rather than
            # judge the keys of such a bucket for ever.
            elif change.refuse_after is not None:
                row.append(change.refuse_after)
        case BucketDelete():
            row = ["-bucket", change.number]
        case PlanPut():
            row = ["plan3", change.number, change.plan_id, change.bucket_number, change.name, change.powers]
        case PlanDelete():
            row = ["-plan3", change.number, change.bucket_number]
        case Hidden():
            row = ["-"]
        case _:
            assert_never(change)
    return _to_json(row)


def in_format_2(change: Change) -> Change:
    """The change for a reader of format 2, which would refuse all changes for the sake of one that it does not know.

    What it can't judge by its powers is no more there for it. Raises NotInFormat2 where it must take a snapshot.
    """
    match change:
        case KeyPut() if change.powers is not None:
            return KeyDelete(change.digest, change.bucket_number)
        case ConsumerPut() if change.powers is not None:
            return ConsumerDelete(change.number)
        case ConsumerPut() if change.has_lost_powers:
            raise NotInFormat2
        case BucketPut() if change.has_powers:
            return replace(change, default_scopes=(), features=())
        case PlanPut() | PlanDelete():
            return Hidden()
    return change


class NotInFormat2(Exception):
    """What was kept from a reader of format 2 comes back: only a snapshot can tell it."""


def decode(line: str | bytes) -> Change:
    """The change that `encode` wrote. Raises ValueError for anything else."""
    try:
        return _change_in(json.loads(line))
    except RecursionError as error:
        raise ValueError("not a change of this format") from error


def decode_all(lines: Sequence[str]) -> list[Change]:
    """The changes that `encode` wrote, one for each line: in half the time that as many calls of `decode` take."""
    try:
        rows = json.loads(f"[{','.join(lines)}]")
    except RecursionError as error:
        raise ValueError("not changes of this format") from error
    if len(rows) != len(lines):
        raise ValueError("there is not one change in each line")
    return [_change_in(row) for row in rows]


def _change_in(row: Any) -> Change:  # noqa: PLR0911
    # To Python a bool is an int; here it is neither a number nor a time.
    shape = tuple(map(type, row)) if isinstance(row, list) else ()
    if bool in shape:
        raise ValueError("not a change of this format")
    # The two of which there are millions, without `match`, which takes twice as long as all the rest.
    if shape in _SHAPES_OF_KEYS and row[0] == "key":
        return KeyPut(_digest(row[1]), row[2], row[3], row[4], row[5])
    if shape == _SHAPE_OF_CONSUMERS and row[0] == "consumer":
        return ConsumerPut(row[1], row[2], row[3], row[4], row[5])
    try:
        match row:
            case ["-key", str(digest), int(bucket)]:
                return KeyDelete(_digest(digest), bucket)
            case ["-consumer", int(number)]:
                return ConsumerDelete(number)
            case ["bucket", int(number), str(bucket_id), str(name), str() | None as account_id, dict(grants)]:
                return BucketPut(number, bucket_id, name, account_id, _grants(grants))
            case [
                "bucket",
                int(number),
                str(bucket_id),
                str(name),
                str() | None as account_id,
                dict(grants),
                int(limit),
            ]:
                if limit < 1:
                    raise ValueError("not a limit")
                return BucketPut(number, bucket_id, name, account_id, _grants(grants), limit)
            case ["key3" | "consumer3" | "bucket3" | "plan3" | "-plan3", *_]:
                return _change_of_format_3(row)
            case ["-bucket", int(number)]:
                return BucketDelete(number)
            case ["-"]:
                return Hidden()
    except (KeyError, AttributeError) as error:
        raise ValueError("not a change of this format") from error
    raise ValueError("not a change of this format")


def _change_of_format_3(row: Sequence[Any]) -> Change:
    match row:
        case ["key3", str(digest), int(bucket), int(consumer), str(key_id), int() | None as expires_at, str(powers)]:
            return KeyPut(_digest(digest), bucket, consumer, key_id, expires_at, powers)
        case [
            "consumer3",
            int(number),
            str(consumer_id),
            int(bucket),
            str(name),
            str(metadata),
            str() | None as powers,
        ]:
            return ConsumerPut(number, consumer_id, bucket, name, metadata, powers, has_lost_powers=powers is None)
        case [
            "bucket3",
            int(number),
            str(bucket_id),
            str(name),
            str() | None as account_id,
            dict(grants),
            int() | None as limit,
            list(scopes),
            list(features),
        ] if (limit is None or limit >= 1) and all(isinstance(each, str) for each in (*scopes, *features)):
            held = _grants(grants)
            return BucketPut(number, bucket_id, name, account_id, held, limit, tuple(scopes), tuple(features))
        case ["plan3", int(number), str(plan_id), int(bucket), str(name), str() | None as powers]:
            return PlanPut(number, plan_id, bucket, name, powers)
        case ["-plan3", int(number), int(bucket)]:
            return PlanDelete(number, bucket)
    raise ValueError("not a change of this format")


def _grants(value: Mapping[str, Any]) -> dict[str, Access]:
    return {account: Access.of(access) for account, access in value.items()}


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    # The comparison refuses spaces, which `fromhex` passes over, and any other length.
    if len(digest) != DIGEST_BYTES or digest.hex() != text:
        raise ValueError("not a digest")
    return digest
