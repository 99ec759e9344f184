"""Owns what a replica in somebody else's process has in common, whoever keeps it: `validate` from any thread, the
opening at the first use, and a thread beside the application that sees to the files.

Nothing is read or opened before it is used, so that an application can be imported where its files are not, and a
server may import it and fork its workers, each of which opens the replica for itself: LMDB's environments are not
carried through a fork. Locks and threads are made then, too: gevent has replaced them meanwhile, and whoever waits on
one that was made before stops all greenlets of a worker.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import lmdb

from keywright.domain import verdict
from keywright.domain.keyformat import Secret
from keywright.domain.powers import NO_DEMAND
from keywright.edge.limits.table import LIMITS_DIRECTORY, LimitTable
from keywright.edge.limits.takers import Takers
from keywright.edge.quotas.reservations import Reservations, UnknownReservation
from keywright.edge.quotas.table import QUOTAS_DIRECTORY, QuotaTable
from keywright.edge.quotas.taker import Quotas
from keywright.edge.quotas.waiting import settled, settled_here
from keywright.edge.replica import origin_clock
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.lease import Lease
from keywright.edge.replica.origin_clock import OriginClock
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.validator import Validator
from keywright.policy.endings import Endings
from keywright.policy.exits import close_at_exit
from keywright.policy.rules.charges import NotSettled
from keywright.runtime import secret_files
from keywright.runtime.clock import Clock
from keywright.runtime.failure_log import ReminderLog
from keywright.runtime.secret_files import KeyFileError
from keywright.runtime.settings import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keywright.domain.powers import Demand
    from keywright.domain.reservations import Reservation, Settlement
    from keywright.domain.verdict import Lacking, Result
    from keywright.edge.usage.edge_usage import EdgeUsage

_log = logging.getLogger(__name__)

READY_SECONDS = 5.0
LOOK_SECONDS = 0.02
RETRY_SECONDS = 0.25
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is: whether keys can be judged, for how long the replica may have been out of step, and why."""

    is_ready: bool
    lag_seconds: float
    reason: str | None


class ReplicaSource(ABC):
    """A source for a policy. May be shared by threads, and be made before a fork."""

    _opening: _Opening | None = None
    """The instance's own, while there is one. It comes and goes by one operation on `__dict__`, which is atomic."""

    def __init__(
        self,
        directory: str | Path,
        *,
        pepper: str | None,
        pepper_file: str | Path | None,
        ready_seconds: float,
        first_share: float,
    ) -> None:
        """`ready_seconds` is how long `open` waits for a replica that holds a snapshot; `first_share` what it has of
        each rate limit of all edges until somebody says what that is.
        """
        self._clock = Clock()
        self.directory = Path(directory).expanduser().absolute()
        self._origin_clock = OriginClock(self.replica_directory / origin_clock.FILE, self._clock)
        self._pepper = None if pepper is None else Secret(pepper)
        self._pepper_file = Path(pepper_file or self.directory / "pepper.key")
        self._ready_seconds = ready_seconds
        self._sync_clock = self._new_sync_clock()
        self._lease = self._new_lease()
        # With whoever else answers from this replica, and opened in the process that asks.
        self._table = LimitTable(
            self.replica_directory / LIMITS_DIRECTORY, self._clock.elapsed, first_share=first_share
        )
        self._quota_table = QuotaTable(self.replica_directory / QUOTAS_DIRECTORY, self._clock.elapsed)
        self._quotas = Quotas(self._quota_table, self._origin_clock.millis)
        self.takers = Takers(self._table, self._quotas)
        self._usage: EdgeUsage | None = None
        self._of_parent: _Opening | None = None
        self._closing: _Opening | None = None
        self._subscribed: weakref.WeakSet[Endings] = weakref.WeakSet()
        self._reminder = ReminderLog(_log, self._clock.elapsed)
        self._missing: tuple[str, float] | None = None
        """A bucket that was asked for and is none, and when."""
        self._problem: str | None = None
        """What is wrong with the replica itself."""
        os.register_at_fork(after_in_child=functools.partial(_forget_opening, weakref.ref(self)))

    @property
    def replica_directory(self) -> Path:
        return self.directory / "replica"

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The verdict, from memory-mapped files: a few microseconds, but for the first call, which opens them."""
        opening = self._opening
        if opening is None or not opening.is_settled:
            try:
                opening = self._begin()
            except KeyFileError as error:
                self._note_problem(str(error))
                return verdict.UNAVAILABLE
            if opening is None:
                self._note_problem(
                    f"the replica in {self.replica_directory} was opened before a fork: this process can't use it"
                )
                return verdict.UNAVAILABLE
            opening.wait()
        # Held by the thread beside us when it closes the files, which is when they were found broken, and at the end.
        with opening.reading:
            validator = opening.validator
            result = verdict.UNAVAILABLE if validator is None else validator.validate(secret, bucket, demand)
        if result is verdict.NO_BUCKET:
            self._missing = bucket, self._clock.elapsed()
        return result

    async def settle(self, found: Lacking, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The verdict where quotas must be lent first: it waits for that, a quarter of a second at most."""
        asked = secret, bucket, demand
        return await settled(found, self.takers, partial(self.validate, *asked), partial(self._without_answer, *asked))

    def settle_here(self, found: Lacking, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The same for who has no event loop: this thread waits."""
        asked = secret, bucket, demand
        return settled_here(found, self.takers, partial(self.validate, *asked), partial(self._without_answer, *asked))

    async def settle_reservation(self, token: str, cost: int) -> Settlement:
        """What a reservation came to, which was made here, or by another process on this replica. Raises NotSettled."""
        reservations, reservation = self._opened(token)
        try:
            return await reservations.settle(reservation, cost)
        except (UnknownReservation, OSError, ValueError) as error:
            raise NotSettled(str(error) or "it was not made on this machine, or is long over") from error

    def settle_reservation_here(self, token: str, cost: int) -> Settlement:
        """The same for who has no event loop."""
        reservations, reservation = self._opened(token)
        try:
            return reservations.settle_here(reservation, cost)
        except (UnknownReservation, OSError, ValueError) as error:
            raise NotSettled(str(error) or "it was not made on this machine, or is long over") from error

    def _opened(self, token: str) -> tuple[Reservations, Reservation]:
        """Raises NotSettled."""
        opening = self._opening
        reservations = None if opening is None else opening.reservations
        if reservations is None:
            raise NotSettled("the replica is not open")
        opened = reservations.open(token)
        if opened is None:
            raise NotSettled("it was not made by this deployment")
        return reservations, opened.reservation

    def _without_answer(self, secret: str, bucket: str, demand: Demand) -> Result:
        opening = self._opening
        if opening is None:
            return verdict.UNAVAILABLE
        with opening.reading:
            validator = opening.validator
            return verdict.UNAVAILABLE if validator is None else validator.without_answer(secret, bucket, demand)

    def open(self) -> None:
        """Start, and wait until the replica can be used, but not for long: without it the verdict is UNAVAILABLE.

        Raises KeyFileError.
        """
        opening = self._begin()
        if opening is not None:
            opening.wait()

    def endings(self) -> Endings:
        """Subscribe to the keys that end from here on: see Endings. Opens the source if it isn't open."""
        if self._opening is None:
            self.open()
        subscribed = Endings(self._read, self._origin_clock.millis)
        self._subscribed.add(subscribed)
        return subscribed

    def close(self) -> None:
        """Stop, end the subscriptions, and let go of the files. A later `validate` opens them again.

        What was counted is sealed and, by an embedded replica, brought to the origin if that answers within 2 s. Who
        does not call this has it done when the interpreter ends, but not when the process is killed.
        """
        for subscribed in list(self._subscribed):
            subscribed.close()
        opening: _Opening | None = self.__dict__.pop("_opening", None)
        if opening is not None:
            self._closing = opening
            # No answers from here on: the origin may be told that this replica is gone.
            with opening.reading:
                opening.validator = None
            opening.stopping.set()
            self._wake()
            opening.thread.join(STOP_SECONDS)

    @property
    def is_ready(self) -> bool:
        """Whether keys can be judged, in step with the record or not."""
        opening = self._opening
        return opening is not None and opening.is_ready

    @property
    def lag_seconds(self) -> float:
        """How long the replica may have been out of step: little when all is well, inf while it is not known."""
        return self._sync_clock.lag_seconds()

    @property
    def reason(self) -> str | None:
        """What is wrong with the replica, if anything is, as far as that is known."""
        return self._problem

    @property
    def status(self) -> SourceStatus:
        """For a health check, and for people."""
        return SourceStatus(self.is_ready, self.lag_seconds, self.reason)

    @property
    def clock_offset_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the origin's, by which keys are judged; None while not known."""
        return self._origin_clock.offset_seconds

    @abstractmethod
    def _open_replica(self, guard: threading.Lock) -> Replica:
        """Raises ReplicaBroken or OSError."""

    @abstractmethod
    def _new_usage(self, replica: Replica) -> EdgeUsage | None:
        """What counts validations by key, if anything does. `_keep` has its sealer tick."""

    @abstractmethod
    def _deliver_last(self, usage: EdgeUsage) -> None:
        """Bring to the origin what an end has sealed, if that can be done at once."""

    @abstractmethod
    def _keep(self, replica: Replica) -> None:
        """Run until `_stopping` is set, or until the replica should be opened anew."""

    @abstractmethod
    def _wake(self) -> None:
        """`_stopping` was set, in case `_keep` waits for something else."""

    def _begin(self) -> _Opening | None:
        """The opening of this process, which is begun if there is none; None where there can be none.

        Raises KeyFileError.
        """
        opening = self._opening
        if opening is not None or self._of_parent is not None:
            return opening
        variables.warn_of_unknown(os.environ, _log)
        # Read at each opening, so that a file that was put right is found without a restart.
        self._digester = secret_files.load_digester(self._pepper, self._pepper_file)
        secret_files.check_private(self._pepper_file if self._pepper is None else None)
        mine = _Opening(self._run, self._ready_seconds)
        opening = cast("_Opening", self.__dict__.setdefault("_opening", mine))
        if opening is mine:
            close_at_exit(self)
            mine.thread.start()
        return opening

    def _run(self, opening: _Opening) -> None:
        before, self._closing = self._closing, None
        if before is not None:
            # LMDB does not open the same files twice in a process.
            before.thread.join()
        self._stopping = opening.stopping
        while not opening.stopping.is_set():
            # With each opening anew: what was known of other files says nothing of these.
            self._sync_clock = self._new_sync_clock()
            try:
                replica = self._open_replica(opening.reading)
            except (ReplicaBroken, OSError, lmdb.Error) as error:
                self._note_problem(f"can't open the replica in {self.replica_directory}: {error}")
                opening.stopping.wait(RETRY_SECONDS)
                continue
            self._note_problem(None)
            # Before the first answer: a promise of an earlier start, or of another process, may be over.
            self._lease = self._new_lease()
            replica.bind(self._lease)
            usage = self._usage = self._new_usage(replica)
            counter = None if usage is None else usage.counter
            with opening.reading:
                opening.replica = replica
                opening.reservations = Reservations(self._digester, self._quotas)
                opening.validator = Validator(
                    replica,
                    self._digester,
                    self._origin_clock.millis,
                    self.takers,
                    counter,
                    opening.reservations,
                )
            try:
                self._keep(replica)
            except Exception:  # noqa: BLE001
                _log.exception("the replica in %s is opened again", self.replica_directory)
                opening.stopping.wait(RETRY_SECONDS)
            finally:
                with opening.reading:
                    opening.replica = opening.validator = None
                if usage is not None:
                    # Nobody counts any more.
                    usage.sealer.close()
                    if opening.stopping.is_set():
                        self._deliver_last(usage)
                replica.close()
                self.takers.close()

    @contextlib.contextmanager
    def _read(self) -> Iterator[Replica | None]:
        opening = self._opening
        if opening is None:
            # Closed, or the parent's: there is none here.
            yield None
            return
        with opening.reading:
            yield None if opening.validator is None else opening.replica

    def _new_sync_clock(self) -> SyncClock:
        return SyncClock(self.replica_directory / "in-step.json", self._clock)

    def _new_lease(self) -> Lease:
        """Until when the replica may answer, as whoever keeps it has promised."""
        return Lease(self.replica_directory / "lease.json", self._clock, self._sync_clock.lag_seconds)

    def _note_problem(self, problem: str | None) -> None:
        """Log it, once a minute for as long as it lasts."""
        self._problem = problem
        if problem is None:
            self._reminder.clear()
        else:
            self._reminder.note(problem)

    def _after_fork(self) -> None:
        """In the child: the thread is not here, and the environment is the parent's.

        LMDB can neither go on with it, nor open the same files again while it is there, nor close it without taking
        the parent's place among the readers away. So it is kept, and nothing closes it. Many a child only makes way
        for another program: that it can't ask for verdicts is said to one that does.
        """
        self._of_parent = self.__dict__.pop("_opening", None) or self._of_parent
        self._closing = None


class _Opening:
    """One opening, in one process, from its beginning to `close`; with primitives of its own."""

    def __init__(self, run: Callable[[_Opening], None], ready_seconds: float) -> None:
        self.reading = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=run, args=(self,), name="keywright-replica", daemon=True)
        self.replica: Replica | None = None
        self.validator: Validator | None = None
        self.reservations: Reservations | None = None
        self.is_settled = False
        """Whether nobody waits any longer: it is ready, or was given time enough."""
        self._deadline = time.monotonic() + ready_seconds

    @property
    def is_ready(self) -> bool:
        with self.reading:
            return self.replica is not None and self.replica.find_cursor() is not None

    def wait(self) -> None:
        """Everyone for themselves, and nobody with a lock held."""
        while not self.is_settled:
            self.is_settled = self.stopping.is_set() or self.is_ready or time.monotonic() >= self._deadline
            if not self.is_settled:
                time.sleep(LOOK_SECONDS)


def _forget_opening(source: weakref.ref[ReplicaSource]) -> None:
    forked = source()
    if forked is not None:
        forked._after_fork()
