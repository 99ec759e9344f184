"""Section: `Validator.validate` by itself on one core, and what a key costs in the replica."""

from __future__ import annotations

import multiprocessing

import report
from machine import LOAD_CORES, on_cores
from plan import Plan, progress, size_name
from report import Aim, Table, number


def run(plan: Plan) -> list[Table]:
    rates = Table(
        "In process: `validate()` on one core",
        ("random keys of", "calls/s", "digests/s", "calls / digests", "calls/s, unknown keys", "resident, MiB"),
        notes=["The baseline is the digest (HMAC-SHA-256) alone, in the same rounds."],
    )
    sizes = Table(
        "The replica on disk",
        ("with", "bytes/key", "/ bare digest", "load, keys/s"),
        notes=["Bytes of the file in use, a key and a consumer of its own with 37 bytes of metadata; a digest has 32."],
    )
    found = []
    for keys in plan.sizes:
        progress(f"in process, {size_name(keys)}")
        found.append(_measured(keys, plan))
        figures = found[-1]
        calls, size = figures["validations_per_second"], figures["bytes_per_key"]
        rates.add(
            size_name(keys),
            number(calls),
            number(figures["digests_per_second"]),
            number(figures["ratio_to_digest"]),
            number(figures["unknown_per_second"]),
            report.mib(figures["rss_bytes"]),
            aims=[Aim(calls, 300_000)],
        )
        load = f"{keys / max(figures['load_seconds'], 0.01):,.0f}"
        sizes.add(size_name(keys), number(size), number(size / 32), load, aims=[Aim(size, 200, is_at_most=True)])
    cost = found[0]["validations_per_second"] / found[1]["validations_per_second"]
    rates.add("cost, many / few", number(cost), aims=[Aim(cost, 1.2, is_at_most=True)])
    return [rates, sizes]


def _measured(keys: int, plan: Plan) -> dict[str, float]:
    """In a process of its own, so that memory and caches of one size are not the other's."""
    spawn = multiprocessing.get_context("spawn")
    with on_cores(LOAD_CORES), spawn.Pool(1) as pool:
        return pool.apply(_measure, (keys, plan.rounds, plan.calls))


def _measure(keys: int, rounds: int, calls: int) -> dict[str, float]:
    import validate_in_process

    validate_in_process.ROUNDS, validate_in_process.SAMPLE = rounds, calls
    return validate_in_process.measure(keys)
