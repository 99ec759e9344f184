"""Owns sealing what one process has counted: when it is taken from the counter, and how it gets into the spool.

What is counted is sealed once a minute, every five where very many keys are in use, and when an hour ends; the first
use of a key in an hour within seconds, so that it is seen whether a key is in use. A kill takes away what was counted
since. One thread at a time calls this, a second or so apart.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from keywright.edge.usage import epoch_file
from keywright.edge.usage.counter import SEEN_KEPT, Tag, Tally, row_of
from keywright.edge.usage.epoch_file import EpochFile
from keywright.protocol.usage import MAX_LOSSES, MAX_NUMBER, MAX_ROWS, MAX_TEXTS, Loss, LossReason, UsageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keywright.edge.usage.counter import UsageCounter
    from keywright.edge.usage.counting import Counting
    from keywright.edge.usage.spool import Spool

_log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often `tick` is called."""
INTERVAL_SECONDS = 60.0
LONG_INTERVAL_SECONDS = 300.0
"""Where more than SEEN_KEPT keys are in use."""
FIRST_USES_A_SECOND = 2_000
"""First uses are sealed so much less often than each second, the more keys are in use: 100,000 make it every 50."""
EARLY_ROWS = 100_000
"""With so many rows it is not waited for the interval."""
MOST_UNSEALED = 300_000
"""While they can't be written, so many rows are kept in memory."""
SLACK_MILLIS = 1_000
"""A validation that was judged longer ago is counted by now."""
ROOM_SECONDS = 10.0
EPOCH_SECONDS = 86_400.0
"""Who has sealed nothing for so long draws another epoch, lest the origin has forgotten this one."""


class Sealer:
    """One for each process that counts."""

    def __init__(
        self,
        counter: UsageCounter,
        spool: Spool,
        counting: Counting,
        elapsed: Callable[[], float],
        draw_epoch: Callable[[], str],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """`elapsed` counts seconds as `Clock.elapsed` does; `draw_epoch` gives 32 hexadecimal digits that nobody else
        has.
        """
        self._counter = counter
        self._spool = spool
        self._counting = counting
        self._millis = counting.millis
        self._elapsed = elapsed
        self._draw_epoch = draw_epoch
        self._interval_seconds = interval_seconds
        self._file: EpochFile | None = None
        self._number = 0
        self._sealed_at = self._taken_at = self._ahead_at = self._room_at = elapsed()
        self._unsealed: dict[tuple[int, Tag], Tally] = {}
        self._losses: list[Loss] = []
        self._taken: list[tuple[int, dict[Tag, Tally]]] = []
        """What was taken from the counter at the last tick: nobody adds to it any more at this one."""
        self._takes_until: int | None = None
        """The moment up to which all is sealed with that, if it is."""
        self._missed = 0
        self._has_failed = False
        counter.take(counting.millis())

    def tick(self) -> None:
        """What is due. A failure is said, and what was counted is kept for the next time."""
        try:
            self._tick()
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.error("usage can't be written to %s: %s", self._spool.directory, error)

    def close(self) -> None:
        """Seal all that there is. Nothing is counted any more."""
        try:
            file = self._begin()
            self._settle(file)
            self._take_all()
            self._settle(file)
            file.close()
        except OSError as error:
            _log.error("usage is lost at the end: %s can't be written to: %s", self._spool.directory, error)

    def _tick(self) -> None:
        file = self._begin()
        self._settle(file)
        now, elapsed, counter = self._millis(), self._elapsed(), self._counter
        interval = LONG_INTERVAL_SECONDS if counter.seen_count >= SEEN_KEPT else self._interval_seconds
        if elapsed - self._taken_at >= interval or counter.turns_at(now) or counter.row_count >= EARLY_ROWS:
            self._take_all()
        elif counter.is_empty:
            # The time was read before it was looked whether there is anything.
            file.write(now - SLACK_MILLIS)
            self._taken_at = elapsed
        elif counter.has_ahead and elapsed - self._ahead_at >= max(1.0, counter.seen_count / FIRST_USES_A_SECOND):
            self._ahead_at = elapsed
            self._taken = counter.take_ahead()
        if elapsed - self._room_at >= ROOM_SECONDS:
            self._room_at = elapsed
            self._tell_of_killed(file)
            dropped = self._spool.make_room(self._counting.stand_in)
            if dropped:
                _log.error("usage is lost: the spool was full, and its %d oldest batches were dropped", dropped)

    def _begin(self) -> EpochFile:
        """This process's own epoch, a new one where there is none or it should not be gone on with."""
        file, now = self._file, self._millis()
        if file is not None:
            is_old = self._number > 0 and self._elapsed() - self._sealed_at >= EPOCH_SECONDS
            if not file.is_given_up and not is_old and self._number < MAX_NUMBER:
                return file
        self._spool.create()
        until = now - SLACK_MILLIS if file is None else file.until
        self._file = EpochFile(self._spool.directory, self._draw_epoch(), until)
        self._number, self._sealed_at = 0, self._elapsed()
        if file is None:
            self._spool.clean()
            self._tell_of_killed(self._file)
        else:
            file.close()
        return self._file

    def _take_all(self) -> None:
        now = self._millis()
        self._taken_at = self._ahead_at = self._elapsed()
        for counts in self._counter.take(now):
            self._taken += [(counts.hour, counts.rows), (counts.hour, counts.ahead)]
        self._takes_until = now - SLACK_MILLIS

    def _settle(self, file: EpochFile) -> None:
        """Seal what was taken at the last tick, and what could not be sealed before. Raises OSError."""
        for hour, tallies in self._taken:
            _merge(self._unsealed, hour, tallies)
        self._taken = []
        missed = self._counter.missed
        if missed > self._missed:
            self._lose(file, missed - self._missed)
            self._missed = missed
        if len(self._unsealed) > MOST_UNSEALED:
            self._lose(file, sum(tally[0] for tally in self._unsealed.values()))
            self._unsealed.clear()
        until = file.until if self._takes_until is None else self._takes_until
        parts = list(_parts(self._unsealed))
        for at, part in enumerate(parts or ([[]] if self._losses else [])):
            losses = tuple(self._losses[:MAX_LOSSES])
            is_last = at >= len(parts) - 1
            self._put(file, until if is_last else file.until, tuple(_rows(self._unsealed, part)), losses)
            for tag in part:
                del self._unsealed[tag]
            del self._losses[: len(losses)]
        if until != file.until:
            file.write(until)
        self._takes_until = None

    def _put(
        self,
        file: EpochFile,
        until: int,
        rows: tuple[UsageRow, ...],
        losses: tuple[Loss, ...],
        *,
        since: int | None = None,
    ) -> None:
        """`since` is the moment from which on it tells, if that is earlier than where the last batch ended."""
        number = self._number + 1
        batch = self._counting.batch(file.epoch, number, until, rows, losses)
        self._spool.put(batch, min(file.until, until) if since is None else min(file.until, until, since))
        self._number, self._sealed_at = number, self._elapsed()

    def _lose(self, file: EpochFile, total: int) -> None:
        now = self._millis()
        _log.error("usage is lost: %d validations that there was no room for", total)
        self._losses.append(Loss(file.epoch, None, None, total, min(file.until, now), now, LossReason.NOT_KEPT))

    def _tell_of_killed(self, file: EpochFile) -> None:
        """Seal that the counts of processes are lost which were killed since. Raises OSError."""
        with epoch_file.take_killed(self._spool.directory) as killed:
            now = self._millis()
            for one in killed:
                since = now if one.until is None else min(one.until, now)
                _log.warning("usage of up to %d s is lost: a process was killed", (now - since) // 1000)
                loss = Loss(one.epoch, None, None, None, since, now, LossReason.KILLED)
                # Until that is taken it is not known what was counted from there on.
                self._put(file, file.until, (), (loss,), since=since)


def _merge(into: dict[tuple[int, Tag], Tally], hour: int, tallies: dict[Tag, Tally]) -> None:
    # A copy: a thread that was slow to add may still do so.
    for tag, (total, first, last, *_) in list(tallies.items()):
        tally = into.get((hour, tag))
        if tally is None:
            into[hour, tag] = [total, first, last, None]
        else:
            tally[0] += total
            tally[1] = min(tally[1], first)
            tally[2] = max(tally[2], last)


def _parts(unsealed: dict[tuple[int, Tag], Tally]) -> Iterator[list[tuple[int, Tag]]]:
    """What goes into one batch each."""
    part: list[tuple[int, Tag]] = []
    texts: set[str | None] = set()
    for each in unsealed:
        tag = each[1]
        told = {tag.verdict, tag.denied_scope, tag.route, tag.address}
        if len(part) >= MAX_ROWS or len(texts | told) > MAX_TEXTS:
            yield part
            part, texts = [], set()
        part.append(each)
        texts |= told
    if part:
        yield part


def _rows(unsealed: dict[tuple[int, Tag], Tally], part: list[tuple[int, Tag]]) -> Iterator[UsageRow]:
    for hour, tag in part:
        yield row_of(hour, tag, unsealed[hour, tag])
