"""What happened in one schedule, as those who asked saw it: every write, every answer, and what all held in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from keywright.protocol.changes import Change

REFUSED = "503"
"""The verdict of who has no replica to answer from."""


class WriteKind(StrEnum):
    CREATE = "create"
    """Keys of a consumer, all at once."""
    REVOKE = "revoke"
    METADATA = "metadata"
    END = "end"
    """The consumer itself is deleted, and its keys with it."""


@dataclass(frozen=True, slots=True)
class Write:
    """What was asked of an origin. Callers bring the keys' secrets along, so they know them whatever comes back.

    `acknowledged_at` is None where no answer told that it happened: then it may have, or not.
    """

    kind: WriteKind
    consumer: str
    asked_at: float
    acknowledged_at: float | None
    origin: str = "origin"
    digests: tuple[bytes, ...] = ()
    n: int | None = None
    """The number that the metadata says from then on."""
    revision: int | None = None
    """What the answer called the revision of this change."""
    applied_by: frozenset[str] = frozenset()
    """The edges of which the answer said that they have applied it."""
    is_everywhere: bool = False
    """Whether the answer to `wait=all` said that nobody is left who has not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader (an edge, or an origin's own) said of a key between two looks at its revision."""

    reader: str
    digest: bytes
    asked_at: float
    answered_at: float
    low: int | None
    high: int | None
    """The revision that the reader was at before and after; None when it had none."""
    verdict: str
    """A verdict, or the status of a refusal to answer."""
    n: int | None = None
    known_at: float | None = None
    """The moment of which the reader said, before, that it knows all that happened until then; None if it did not."""
    is_last: bool = False
    """Whether all was healed, and in step, when it was asked for."""


@dataclass(frozen=True, slots=True)
class Held:
    """What somebody holds in the end."""

    revision: int | None
    records: Sequence[Change]


@dataclass(slots=True)
class History:
    base: int = 0
    """The record's revision before any of it."""
    writes: list[Write] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    log: list[tuple[int, Change]] = field(default_factory=list)
    """The record's own log after `base`."""
    record: Held = field(default_factory=lambda: Held(0, ()))
    edges: dict[str, Held] = field(default_factory=dict)
    visible: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    """Of the record, what each edge may see."""
    damages: list[tuple[float, str]] = field(default_factory=list)
    """When a reader's replica was damaged."""
    comebacks: list[tuple[float, str]] = field(default_factory=list)
    """When which edge was started again that had said goodbye: it may refuse until it is in step."""
    freezes: list[tuple[float, float, str]] = field(default_factory=list)
    """From when until when some of a reader's processes did not move."""
    healed_at: float = float("inf")
    """When nothing was spoilt any more."""
    unhealed: list[str] = field(default_factory=list)
    """Who did not come back in step after everything was healed, and what it said."""
