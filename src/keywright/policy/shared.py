"""Owns the shared replica: an application reads the replica that `keywright edge` or `serve` keeps on the same machine.

It never writes there; how far the replica is behind is known from what the edge notes beside it (SyncClock). But
LMDB's readers enter themselves in the replica's lock file, so the application runs as the user that the edge runs as,
and on a mount that lets it write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.edge.identity import Identity
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.edge.sync.presence import held_for_reading
from keywright.edge.usage.edge_usage import EdgeUsage
from keywright.edge.usage.sealer import TICK_SECONDS
from keywright.policy.source import READY_SECONDS, RETRY_SECONDS, ReplicaSource
from keywright.runtime import secret_files
from keywright.runtime.secret_files import KeyFileError

if TYPE_CHECKING:
    import threading
    from pathlib import Path

STILL_SECONDS = 10.0
"""Longer than it takes another process to follow in the place of one that has stopped moving."""

MISSING_SECONDS = 120.0
"""For how long it is told of a bucket that nobody asks for any more: longer than between two lines in the log."""


class SharedReplica(ReplicaSource):
    """A source for a policy. It answers for what the replica holds, also while the edge is down.

    But not for a bucket whose owner wants no answers from a replica that is as far behind as this one by then.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        pepper: str | None = None,
        pepper_file: str | Path | None = None,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        """`directory` is the data directory of the edge, in which its pepper is, too, unless it is said where else.
        It is read when the replica is opened.
        """
        # Whose replica it is says what its share of limits of all edges is.
        super().__init__(
            directory, pepper=pepper, pepper_file=pepper_file, ready_seconds=ready_seconds, first_share=0.0
        )

        self._sealed_at = float("-inf")

    def _open_replica(self, guard: threading.Lock) -> Replica:
        pepper_check, lag_seconds = self._digester.pepper_check(), self._sync_clock.lag_seconds
        return Replica.open_to_read(self.replica_directory, pepper_check, lag_seconds=lag_seconds, guard=guard)

    def _new_usage(self, replica: Replica) -> EdgeUsage | None:
        identity = Identity.load(self.directory, name="", region="")
        return EdgeUsage.beside_edge(self.directory, identity.instance, replica, self._origin_clock)

    def _deliver_last(self, usage: EdgeUsage) -> None:
        """Whose replica it is sends what is in its spool."""

    def _wake(self) -> None:
        """Nothing to do: what `_keep` waits for is `_stopping` itself."""

    def _keep(self, replica: Replica) -> None:
        # Files that were marked corrupt, or put in the place of those that are open here, are let go of soon, whether
        # anybody asks for a verdict or not: whoever keeps the replica waits for that.
        with held_for_reading(self.replica_directory):
            while not self._stopping.wait(RETRY_SECONDS):
                if replica.needs_reopening:
                    return
                self._seal()
                problem = self._find_problem(replica)
                self._note_problem(problem)
                if problem is not None and self._has_found_pepper(replica):
                    return

    def _seal(self) -> None:
        usage, now = self._usage, self._clock.elapsed()
        if usage is not None and now - self._sealed_at >= TICK_SECONDS:
            self._sealed_at = now
            usage.look()
            usage.sealer.tick()

    def _find_problem(self, replica: Replica) -> str | None:
        try:
            pepper_check, deployment_id = replica.pepper_check, replica.deployment_id
        except ReplicaBroken as error:
            return str(error)
        where = f"the replica in {self.replica_directory}"
        if pepper_check is None:
            return f"{where} holds no snapshot yet: see the log of the process that keeps it"
        if pepper_check != self._digester.pepper_check():
            place = "the pepper given" if self._pepper is not None else str(self._pepper_file)
            deployment = str(deployment_id).partition("/")[0]
            return (
                f"{where} is of deployment {deployment}, whose keys were digested under another pepper than {place}: "
                "give its pepper, or the directory of the other deployment"
            )
        missing = self._find_missing(replica)
        if missing is not None:
            deployment = str(deployment_id).partition("/")[0]
            return (
                f"{where} is of deployment {deployment}, which has no key bucket {missing[:100]!r}: "
                "give the directory of the deployment that has it"
            )
        if self.lag_seconds > STILL_SECONDS:
            return f"{where} has not been in step for a while: see /readyz and the log of the process that keeps it"
        return None

    def _find_missing(self, replica: Replica) -> str | None:
        """A bucket that was asked for lately and isn't there now."""
        if self._missing is None:
            return None
        bucket, asked_at = self._missing
        if self._clock.elapsed() - asked_at > MISSING_SECONDS or replica.find_bucket(bucket) is not None:
            self._missing = None
            return None
        return bucket

    def _has_found_pepper(self, replica: Replica) -> bool:
        """Whether the file holds the pepper of this replica by now."""
        try:
            digester = secret_files.load_digester(self._pepper, self._pepper_file)
        except (KeyFileError, OSError):
            return False
        check = digester.pepper_check()
        if check == self._digester.pepper_check() or check != replica.pepper_check:
            return False
        self._digester = digester
        return True
