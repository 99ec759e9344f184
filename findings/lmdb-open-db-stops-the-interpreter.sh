#!/usr/bin/env bash
# One process is in a write transaction of an LMDB environment. Another opens a named database of it, in a thread.
#
# One would guess: `Environment.begin(write=True)` waits for the writer without the interpreter's lock, and so does
#   `open_db`, which begins a write transaction of its own when it is given none.
# What happens: `begin` lets the other threads run while it waits. `open_db` keeps the interpreter's lock: no thread of
#   the whole process runs until the other process's transaction is over, however long that takes.
# Consequence: whoever opens databases in a server while others write stops that server for as long. Open them at the
#   start; or take a lock of your own first, one that is waited for without the interpreter's.
#
# lmdb 3.0.0. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lmdb==3.0.0

cat >"$folder/probe.py" <<'PYTHON'
import subprocess
import sys
import threading
import time

import lmdb

HOLDS_SECONDS = 2.0
HOLDER = f"""
import lmdb, sys, time
with lmdb.open(sys.argv[1], max_dbs=4).begin(write=True):
    print("holds", flush=True)
    time.sleep({HOLDS_SECONDS})
"""


def longest_stop(environment, path, waits):
    """For how long no other thread ran, at most, while one waited for the writer; and how long that took."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    holder.stdout.readline()
    thread = threading.Thread(target=waits, args=(environment,))
    began = last = time.monotonic()
    thread.start()
    longest = 0.0
    while thread.is_alive():
        time.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    holder.wait()
    return longest, last - began


def begin(environment):
    with environment.begin(write=True):
        pass


def open_db(environment):
    environment.open_db(b"records")


path = sys.argv[1]
environment = lmdb.open(path, max_dbs=4)
environment.open_db(b"records")
environment.close()
environment = lmdb.open(path, max_dbs=4)
found = {}
for waits in (begin, open_db):
    stopped, took = longest_stop(environment, path, waits)
    found[waits.__name__] = stopped
    print(f"{waits.__name__:>8}: took {took:.2f} s; other threads stood still for up to {stopped:.2f} s")
if not (found["begin"] < HOLDS_SECONDS / 4 and found["open_db"] > HOLDS_SECONDS / 2):
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
mkdir "$folder/data"
timeout 60 "$folder/venv/bin/python" "$folder/probe.py" "$folder/data"
echo "as described"
