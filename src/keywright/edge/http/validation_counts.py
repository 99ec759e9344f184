"""Owns what the endpoints count of the validations that they answer: by bucket and verdict, how many and how long.

Each endpoint counts for itself, from the event loop's thread: an addition for a good key, one more for the time. What
is no bucket is never a label, or whoever guesses names could fill Prometheus; of those that are, the first so many are
told by name (runtime/metrics/shared_names.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.domain.verdict import Verdict
from keywright.runtime.metrics.families import Family
from keywright.runtime.metrics.histogram import REQUEST_SECONDS, Histogram
from keywright.runtime.metrics.shared_names import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client.core import Metric

    from keywright.runtime.metrics.shared_names import SharedNames
    from keywright.runtime.metrics.worker_counts import Counts

NO_BUCKET = "_none"
"""Stands for the bucket of a validation in a bucket that there is not."""
MOST_COUNTED = 10_000
"""Buckets that one endpoint of one worker counts apart: whoever makes and deletes them must not fill its memory."""

VALIDATIONS = Family(
    "keywright_validations", "Validations by endpoint, bucket and verdict.", ("endpoint", "bucket", "verdict")
)
FAILURES = Family("keywright_validation_failures", "Validations answered 500: a bug, which the log has.", ("endpoint",))
SECONDS = Family(
    "keywright_validation_duration_seconds",
    "From the request's arrival to its answer, without the wait that Min-Revision asks for, unless that is in vain.",
    ("endpoint",),
    REQUEST_SECONDS,
)


class ValidationCounts:
    """Of one endpoint. `valid` is by bucket, and is added to where the key is answered for."""

    def __init__(self, has_bucket: Callable[[str], bool]) -> None:
        """`has_bucket` says whether there is one of this name, as far as is known."""
        self.valid: dict[str, int] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self.failures = 0
        self.latency = Histogram(REQUEST_SECONDS)
        self._has_bucket = has_bucket

    def begin(self, bucket: str) -> None:
        """Count the first good key in a bucket."""
        name = self._counted(bucket)
        self.valid[name] = self.valid.get(name, 0) + 1

    def refuse(self, bucket: str, code: str) -> None:
        """Count a validation that was answered with this verdict, or fault of the request."""
        if code == Verdict.NO_BUCKET:
            bucket = NO_BUCKET
        elif bucket not in self.valid:
            # An edge without a snapshot answers for any name whatever that it is not ready.
            is_sure = code != Verdict.UNAVAILABLE or self._has_bucket(bucket)
            bucket = self._counted(bucket) if is_sure else OTHER
            self.valid.setdefault(bucket, 0)
        self.refused[bucket, code] = self.refused.get((bucket, code), 0) + 1

    def _counted(self, bucket: str) -> str:
        return bucket if bucket in self.valid or len(self.valid) < MOST_COUNTED else OTHER


class ValidationSource:
    """The counts of all endpoints, by their name in the label."""

    families = (VALIDATIONS, FAILURES, SECONDS)

    def __init__(self, endpoints: Mapping[str, ValidationCounts], names: SharedNames) -> None:
        self.endpoints = dict(endpoints)
        self._names = names

    def count(self) -> Counts:
        counts: Counts = {}
        found = [
            (endpoint, counted, dict(counted.valid), dict(counted.refused))
            for endpoint, counted in list(self.endpoints.items())
        ]
        used = {bucket for _, _, valid, _ in found for bucket in valid} - {OTHER, NO_BUCKET}
        told = self._names.choose(used) | {NO_BUCKET}
        for endpoint, counted, valid, refused in found:
            rows = [((bucket, str(Verdict.VALID)), count) for bucket, count in valid.items()]
            for (bucket, code), count in (*rows, *refused.items()):
                key = (VALIDATIONS.name, endpoint, bucket if bucket in told else OTHER, str(code))
                counts[key] = counts.get(key, 0) + count
            counts[FAILURES.name, endpoint] = counted.failures
            counts |= SECONDS.of(counted.latency, endpoint)
        return counts

    def gauges(self) -> Iterable[Metric]:
        return ()
