"""What is true of the keys of a soak: which must be good by now, and which must not be any more."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

ENDED_KEPT = 5000
KEPT_SECONDS = 30.0
"""For so long an expired key is asked for before it is deleted."""
SETTLED_SECONDS = 5.0
"""So long after its creation a key is good everywhere, and so near its expiry nobody says what it is."""


@dataclass(slots=True)
class Key:
    """`begun` is when its creation had returned, `ending` when its end was asked for and `ended` when that had returned
    (of an expiry: the moment itself), all by time.monotonic().
    """

    secret: str
    id: str
    consumer: str
    begun: float
    ending: float = inf
    ended: float = inf

    def must_be_good(self, asked: float, answered: float) -> bool:
        return asked > self.begun + SETTLED_SECONDS and answered < self.ending

    def must_have_ended(self, asked: float, late_seconds: float) -> bool:
        return asked > self.ended + late_seconds


@dataclass
class Keys:
    """`wanted` keys are good at a time, about. Of those that ended the last ones are asked for, too."""

    wanted: int
    _good: list[Key] = field(default_factory=list)
    _ended: deque[Key] = field(default_factory=lambda: deque(maxlen=ENDED_KEPT))
    _expiring: deque[Key] = field(default_factory=deque)
    """Those that end by themselves, and are there until they are deleted."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def __len__(self) -> int:
        return len(self._good)

    def add(self, key: Key) -> None:
        with self._lock:
            self._good.append(key)
            if key.ended != inf:
                self._expiring.append(key)

    def expires(self, keys: Sequence[Key]) -> None:
        """These end by themselves from now on."""
        with self._lock:
            self._expiring.extend(keys)

    def take_expired(self) -> Key | None:
        """One that ended by itself a while ago, and can be deleted."""
        with self._lock:
            if not self._expiring or self._expiring[0].ended + KEPT_SECONDS > time.monotonic():
                return None
            return self._expiring.popleft()

    def pick(self) -> Key | None:
        """One to be asked for: mostly a good one."""
        with self._lock:
            self._sort_out()
            if self._ended and (not self._good or self._random.random() < 0.2):
                return self._random.choice(self._ended)
            return self._random.choice(self._good) if self._good else None

    def take_out(self) -> Key | None:
        """A good one whose end begins now."""
        with self._lock:
            self._sort_out()
            if not self._good:
                return None
            key = self._pop(self._random.randrange(len(self._good)))
            key.ending = time.monotonic()
            self._ended.append(key)
            return key

    def take_out_of(self, consumer: str) -> list[Key]:
        """All good ones of a consumer, whose end begins now."""
        now = time.monotonic()
        with self._lock:
            found = [key for key in self._good if key.consumer == consumer]
            self._good = [key for key in self._good if key.consumer != consumer]
            for key in found:
                key.ending = min(key.ending, now)
            self._ended.extend(found)
            return found

    def _sort_out(self) -> None:
        now, at = time.monotonic(), self._random.randrange(len(self._good) or 1)
        # One look at each call is enough to meet those that expire.
        if self._good and self._good[at].ended < now:
            self._ended.append(self._pop(at))

    def _pop(self, at: int) -> Key:
        self._good[at], self._good[-1] = self._good[-1], self._good[at]
        return self._good.pop()
