"""Owns what is known of where the record is: the newest head that a frame tells, and when the origin was last heard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keywright.protocol.changes import Cursor
    from keywright.protocol.frames import Frame
    from keywright.runtime.clock import Clock

SILENCE_SECONDS = 6.0
"""Three heartbeats of the origin: what was heard before says nothing of now."""
CLOCK_SECONDS = 60.0
"""How far the clocks of origin and edge may be apart, and how long a broker may hold a heartbeat back."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A frame that says where the record was, and the moment (`Clock.elapsed`) of which that is true."""

    frame: Frame
    true_at: float


class HeadWatch:
    """Judges heartbeats, and keeps the newest head. Asks nobody."""

    def __init__(self, clock: Clock, silence_seconds: float) -> None:
        self.silence_seconds = silence_seconds
        self.known: KnownHead | None = None
        self.problem = ""
        """Why the last heartbeat proves nothing; "" if it does."""
        self._clock = clock
        self._last_heartbeat_at = self._last_heartbeat_time = float("-inf")

    @property
    def is_heard(self) -> bool:
        """Whether the origin is there, by a heartbeat of the last seconds."""
        return self._clock.elapsed() <= self.silent_at

    @property
    def silent_at(self) -> float:
        """From when on (`Clock.elapsed`) the origin is silent, if nothing more is heard."""
        return self._last_heartbeat_at + self.silence_seconds

    def forget(self) -> None:
        """What was known was of another record."""
        self.known = None

    def on_heartbeat(self, frame: Frame) -> bool:
        """Note that the origin is there, unless this was said long ago or against what is known. Whether it counts."""
        self.problem = self._find_problem(frame)
        if self.problem:
            return False
        self._last_heartbeat_at, self._last_heartbeat_time = self._clock.elapsed(), frame.time
        self.accept(frame)
        return True

    def is_recent(self, frame: Frame) -> bool:
        """Whether the frame was made lately by this machine's clock."""
        return abs(self._clock.millis() - frame.time) / 1000 <= CLOCK_SECONDS

    def accept(self, frame: Frame) -> None:
        """Take the frame's word for where the record is, if it is the newest."""
        # A time that has yet to come was told by a wrong clock; it must not outlast what the right one says later.
        frame = replace(frame, time=min(frame.time, self._clock.millis()))
        if self.known is None or _newness(frame) > _newness(self.known.frame):
            ago = max(0.0, (self._clock.millis() - frame.time) / 1000)
            self.known = KnownHead(frame, self._clock.elapsed() - ago)

    def _find_problem(self, frame: Frame) -> str:
        age = (self._clock.millis() - frame.time) / 1000
        if abs(age) > CLOCK_SECONDS:
            said = f"{age:.0f} s ago" if age > 0 else f"in {-age:.0f} s"
            return (
                f"by this machine's clock the origin's last heartbeat was made {said}: a clock is wrong, "
                "or the broker holds heartbeats back"
            )
        if frame.time <= self._last_heartbeat_time:
            return "the broker repeats old heartbeats of the origin"
        known = None if self.known is None else self.known.frame
        if (
            known is not None
            and age_of(frame.cursor) < age_of(known.cursor)
            and frame.time > known.time + self.silence_seconds * 1000
        ):
            return f"the origin is at revision {frame.cursor.revision}, which is before this replica's"
        return ""


def age_of(cursor: Cursor) -> tuple[int, int]:
    """Grows along a history; and a record that was restored goes on later than what it lost (commit_log.py)."""
    return cursor.stamped_at, cursor.revision


def _newness(frame: Frame) -> tuple[int, int, int]:
    return *age_of(frame.cursor), frame.time
