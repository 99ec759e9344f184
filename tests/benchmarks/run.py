"""`make bench`: measures Keywright beside baselines of the same run, and prints tables.

    make bench                                   everything, a few minutes
    make bench ARGS="--only http --rounds 9"     one section
    make bench ARGS=--write                      and puts the tables into docs/reference/performance.md

What can't be measured here (no wrk, no nginx and no way to install them) is called so in its table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# The tests' PostgreSQL serves here, too.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import apps
import bootstrap
import creation
import fleet
import http_doors
import in_process
import load
import machine
import powers
import propagation
import report
import servers
import shares
import start_up
import stream
from plan import Plan, progress
from report import Table

import gateways

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "performance.md"
SECTIONS = {
    "http": http_doors.run,
    "gateways": gateways.run,
    "in-process": in_process.run,
    "powers": powers.run,
    "shares": shares.run,
    "creation": creation.run,
    "apps": apps.run,
    "start-up": start_up.run,
    "propagation": propagation.run,
    "bootstrap": bootstrap.run,
    "stream": stream.run,
    "fleet": fleet.run,
}


def main() -> int:
    options = _options()
    # The settings under measurement are the defaults, whatever this shell has been used for.
    for name in [name for name in os.environ if name.startswith("KEYWRIGHT_")]:
        del os.environ[name]
    if {"http", "stream", "apps", "gateways", "powers"} & set(options.only):
        _install_tools()
    with tempfile.TemporaryDirectory(prefix="keywright-bench-", dir=options.directory) as name:
        directory = Path(name)
        facts = machine.description(directory)
        plan = (Plan.quick if options.quick else Plan.full)(directory, options.rounds)
        tables: list[Table] = []
        failed = []
        for section in options.only:
            try:
                tables += SECTIONS[section](plan)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                # The other sections took minutes: they are worth their tables all the same.
                progress(f"{section} failed: {error}")
                failed.append(section)
                tables.append(Table.not_measured(section, "failed in this run"))
    facts.append(("rounds", f"{plan.rounds}; the figures are medians, +- is half the distance of the extremes"))
    text = report.render(facts, tables)
    print(text)
    if failed:
        return 1
    if options.write:
        report.write_into(PAGE, text)
        progress(f"written to {PAGE}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures Keywright beside baselines of the same run.")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section only (may be repeated)")
    parser.add_argument("--rounds", type=int, help="rounds whose median is taken (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny: to try the benchmark itself, not for figures")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}: a full run only")
    parser.add_argument("--directory", type=Path, help="where the data goes while measuring (default: the temporary)")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write takes a full run, or the page would hold less than it says")
    options.only = options.only or list(SECTIONS)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def _install_tools() -> None:
    """wrk and nginx from Debian, where that is possible; the sections say what is missing otherwise."""
    missing = []
    if load.find_wrk() is None:
        missing.append("wrk")
    if servers.find_nginx() is None:
        missing.append("nginx-light")
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    progress(f"installing {' and '.join(missing)}")
    # At this run level nothing is started by its installation.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            progress("apt-get failed; going on without")
            return


if __name__ == "__main__":
    sys.exit(main())
