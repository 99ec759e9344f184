"""`make soak`: an origin and an edge under mixed load with churn for hours. Does anything grow? Is any answer wrong?

    make soak                                    two hours
    make soak ARGS="--minutes 20 --validations 400"
    make soak ARGS="--write report.txt"

Prints a row a minute, and at the end the start, the middle and the end side by side. Exits 1 for a wrong answer, a call
that failed, and for what grew beyond its bound.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

# The tests' servers and the benchmarks' measures serve here, too.
sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import machine
from growth import Sample, Sampler, list_grown, render
from keys import Keys
from traffic import Reader, Writer

from support.api import VARIABLES, Api
from support.origin import FOLLOW
from support.process import EdgeProcess, ServeProcess

EDGE_LATE_SECONDS = 5.0
"""An edge whose answers nobody waits for is behind by less than that, also on a machine that is busy."""


def main() -> int:
    options = _options()
    # An end that was asked for ends the processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="keywright-soak-", dir=options.directory))
        )
        served = ServeProcess(directory / "origin", from_nothing=True, **VARIABLES)
        stack.enter_context(served).wait_until_ready(120)
        api = stack.enter_context(Api(served))
        token = api.call("POST", "/v1/accounts/my-account/management-keys", json={"permissions": FOLLOW})["key"]
        pepper = directory / "origin" / "pepper.key"
        edge = EdgeProcess(directory / "edge", served.url, token, pepper, from_nothing=True)
        stack.enter_context(edge).wait_until_ready(120)

        keys = Keys(options.keys)
        writer = Writer(api, keys, options.writes)
        readers = {
            "origin": Reader("origin", served.port, keys, options.validations / 2, late_seconds=0.0),
            "edge": Reader("edge", edge.port, keys, options.validations / 2, late_seconds=EDGE_LATE_SECONDS),
        }
        sampler = Sampler({"origin": served, "edge": edge}, writer, readers)
        actors = [writer, *readers.values()]
        for actor in actors:
            actor.start()
            stack.callback(actor.stop)
        samples = _watch(sampler, options.minutes)
        for actor in actors:
            actor.stop()
        facts = machine.description(directory)
    wrong = [line for actor in actors for line in actor.wrong]
    grown = list_grown(samples)
    text = render(facts, samples, actors, wrong, grown)
    print(text)
    if options.write:
        options.write.write_text(text + "\n", encoding="utf-8")
    return int(bool(wrong or grown))


def _watch(sampler: Sampler, minutes: int) -> list[Sample]:
    samples = []
    started = time.monotonic()
    for minute in range(1, minutes + 1):
        time.sleep(max(0.0, started + 60 * minute - time.monotonic()))
        samples.append(sampler.take(minute))
        print(samples[-1].line(), file=sys.stderr, flush=True)
    return samples


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--validations", type=float, default=200, help="a second, half of them at the edge")
    parser.add_argument("--writes", type=float, default=5, help="a second")
    parser.add_argument("--keys", type=int, default=2000, help="how many are good at a time")
    parser.add_argument("--directory", type=Path, help="where the data lies (default: the system's temporary folder)")
    parser.add_argument("--write", type=Path, help="a file for the report")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
