"""Owns what a replica in somebody else's process has in common, whoever keeps it: `validate` from any thread, the
opening at the first use, and a thread beside the application that sees to the files.

Nothing is opened before it is used, so that a server may import the application and fork its workers, and each of them
opens the replica for itself: LMDB's environments are not carried through a fork.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from keywright.domain import verdict
from keywright.domain.keyformat import Secret
from keywright.edge.replica.freshness import SyncClock
from keywright.edge.replica.lease import Lease
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.validator import Validator
from keywright.runtime import secret_files
from keywright.runtime.clock import Clock
from keywright.runtime.settings import variables

if TYPE_CHECKING:
    from keywright.domain.verdict import Result

_log = logging.getLogger(__name__)

READY_SECONDS = 5.0
LOOK_SECONDS = 0.02
RETRY_SECONDS = 0.25
STOP_SECONDS = 10.0


class ReplicaSource(ABC):
    """A source for a policy. May be shared by threads, and be made before a fork."""

    def __init__(
        self,
        directory: str | Path,
        *,
        pepper: str | None,
        pepper_file: str | Path | None,
        ready_seconds: float,
    ) -> None:
        """`ready_seconds` is how long `open` waits for a replica that holds a snapshot. Raises KeyFileError."""
        variables.warn_of_unknown(os.environ, _log)
        self._clock = Clock()
        self.directory = Path(directory).expanduser().absolute()
        secret = None if pepper is None else Secret(pepper)
        self._digester = secret_files.load_digester(secret, Path(pepper_file or self.directory / "pepper.key"))
        self._ready_seconds = ready_seconds
        self._reading = threading.Lock()
        self._opening = threading.Lock()
        self._replica: Replica | None = None
        self._validator: Validator | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._sync_clock = self._new_sync_clock()
        self._lease = self._new_lease()
        self._is_open = False
        self._told = ""
        os.register_at_fork(after_in_child=functools.partial(_tell_of_fork, weakref.ref(self)))

    @property
    def replica_directory(self) -> Path:
        return self.directory / "replica"

    def validate(self, secret: str, bucket: str) -> Result:
        """The verdict, from memory-mapped files: a few microseconds, but for the first call, which opens them."""
        if not self._is_open:
            self.open()
        # Held by the thread beside us when it closes the files, which is when they were found broken, and at the end.
        with self._reading:
            return verdict.UNAVAILABLE if self._validator is None else self._validator.validate(secret, bucket)

    def open(self) -> None:
        """Start, and wait until the replica can be used, but not for long: without it the verdict is UNAVAILABLE."""
        with self._opening:
            if self._is_open:
                return
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="keywright-replica", daemon=True)
            self._thread.start()
            deadline = time.monotonic() + self._ready_seconds
            while not self.is_ready and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
            self._is_open = True

    def close(self) -> None:
        """Stop, and let go of the files. A later `validate` opens them again."""
        with self._opening:
            thread, self._thread, self._is_open = self._thread, None, False
            if thread is not None:
                # No answers from here on: the origin may be told that this replica is gone.
                with self._reading:
                    self._validator = None
                self._stopping.set()
                self._wake()
                thread.join(STOP_SECONDS)

    @property
    def is_ready(self) -> bool:
        """Whether keys can be judged, in step with the record or not."""
        with self._reading:
            return self._replica is not None and self._replica.find_cursor() is not None

    @property
    def lag_seconds(self) -> float:
        """How long the replica may have been out of step: little when all is well, inf while it is not known."""
        return self._sync_clock.lag_seconds()

    @abstractmethod
    def _open_replica(self, guard: threading.Lock) -> Replica:
        """Raises ReplicaBroken or OSError."""

    @abstractmethod
    def _keep(self, replica: Replica) -> None:
        """Run until `_stopping` is set, or until the replica should be opened anew."""

    @abstractmethod
    def _wake(self) -> None:
        """`_stopping` was set, in case `_keep` waits for something else."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            # With each opening anew: what was known of other files says nothing of these.
            self._sync_clock = self._new_sync_clock()
            try:
                replica = self._open_replica(self._reading)
            except (ReplicaBroken, OSError, lmdb.Error) as error:
                self._tell(f"can't open the replica in {self.replica_directory}: {error}")
                self._stopping.wait(RETRY_SECONDS)
                continue
            # Before the first answer: a promise of an earlier start, or of another process, may be over.
            self._lease = self._new_lease()
            replica.bind(self._lease)
            with self._reading:
                self._replica, self._validator = replica, Validator(replica, self._digester, self._clock.millis)
            try:
                self._keep(replica)
            except Exception:  # noqa: BLE001
                _log.exception("the replica in %s is opened again", self.replica_directory)
                self._stopping.wait(RETRY_SECONDS)
            finally:
                with self._reading:
                    self._replica = self._validator = None
                replica.close()

    def _new_sync_clock(self) -> SyncClock:
        return SyncClock(self.replica_directory / "in-step.json", self._clock)

    def _new_lease(self) -> Lease:
        """Until when the replica may answer, as whoever keeps it has promised."""
        return Lease(self.replica_directory / "lease.json", self._clock, self._sync_clock.lag_seconds)

    def _tell(self, reason: str) -> None:
        """Once, not at every attempt."""
        if reason != self._told:
            self._told = reason
            _log.warning(reason)

    def _after_fork(self) -> None:
        """In the child: the thread is not here, and the environment is the parent's."""
        self._reading, self._opening = threading.Lock(), threading.Lock()
        if self._thread is not None:
            # LMDB can neither go on with it, nor open the same files again while it is there, nor close it without
            # taking the parent's place among the readers away. `_replica` is kept so that nothing closes it.
            self._thread = self._validator = None
            self._is_open = True
            _log.error("the replica in %s was opened before a fork: this process can't use it", self.replica_directory)


def _tell_of_fork(source: weakref.ref[ReplicaSource]) -> None:
    forked = source()
    if forked is not None:
        forked._after_fork()
