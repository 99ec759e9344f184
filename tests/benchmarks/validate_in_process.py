"""Measures `Validator.validate` in one process on one core, and what a replica of so many keys costs.

Run by itself: `python tests/benchmarks/validate_in_process.py 10000 1000000`. The figures are medians of several rounds
over keys in random order; the baseline is the digest alone, in the same run, so that a ratio means something on a
machine that is busy.
"""

from __future__ import annotations

import gc
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from keywright.domain import keyformat, models
from keywright.domain.keyformat import Digester
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.protocol.changes import BucketPut, ConsumerPut, Cursor, KeyPut
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keywright.protocol.changes import Change

ROUNDS = 7
SAMPLE = 100_000
BUCKET = "benchmark"


def measure(keys: int) -> dict[str, float]:
    """Load `keys` keys, one for each consumer, and measure. Rates are per second, sizes in bytes."""
    digester = Digester(secrets.token_bytes(32))
    texts = [keyformat.generate("zpka", random.randbytes).reveal() for _ in range(keys)]
    with tempfile.TemporaryDirectory() as directory:
        replica = Replica.open(Path(directory), digester.pepper_check())
        started = time.perf_counter()
        replica.load("benchmark", digester.pepper_check(), Cursor(1, "0" * 16, 1), _changes(texts, digester))
        load_seconds = time.perf_counter() - started
        sample = random.choices(texts, k=SAMPLE)
        size = replica.used_bytes
        del texts
        gc.collect()
        gc.freeze()
        validator = Validator(replica, digester, Clock().millis)
        assert all(validator.validate(text, BUCKET).is_valid for text in sample)
        valid, baseline = [], []
        for _ in range(ROUNDS):
            random.shuffle(sample)
            baseline.append(_rate(digester.digest, sample))
            valid.append(_rate_of_validate(validator, sample))
        unknown = [keyformat.generate("zpka", random.randbytes).reveal() for _ in range(SAMPLE // 4)]
        refused = statistics.median(_rate_of_validate(validator, unknown) for _ in range(3))
        replica.close()
    return {
        "keys": keys,
        "validations_per_second": round(statistics.median(valid)),
        "digests_per_second": round(statistics.median(baseline)),
        "ratio_to_digest": round(statistics.median(v / b for v, b in zip(valid, baseline, strict=True)), 3),
        "unknown_per_second": round(refused),
        "bytes_per_key": round(size / keys, 1),
        "load_seconds": round(load_seconds, 2),
        "rss_bytes": _rss_bytes(),
    }


def _changes(texts: list[str], digester: Digester) -> Iterator[Change]:
    yield BucketPut(1, models.new_id(models.IdKind.BUCKET, random.randbytes), BUCKET, None)
    for number in range(len(texts)):
        metadata = json.dumps({"plan": "gold", "customerId": number}, separators=(",", ":"))
        consumer_id = f"csmr_{number:024}"
        yield ConsumerPut(number, consumer_id, 1, f"customer-{number}", metadata)
    for digest, number in sorted((digester.digest(text), number) for number, text in enumerate(texts)):
        yield KeyPut(digest, 1, number, f"key_{number:024}", None)


def _rate(function: object, sample: list[str]) -> float:
    started = time.perf_counter()
    for text in sample:
        function(text)  # type: ignore[operator]
    return len(sample) / (time.perf_counter() - started)


def _rate_of_validate(validator: Validator, sample: list[str]) -> float:
    validate = validator.validate
    started = time.perf_counter()
    for text in sample:
        validate(text, BUCKET)
    return len(sample) / (time.perf_counter() - started)


def _rss_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


if __name__ == "__main__":
    for argument in sys.argv[1:] or ["10000"]:
        print(json.dumps(measure(int(argument))))
