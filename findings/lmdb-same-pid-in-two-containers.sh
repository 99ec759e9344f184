#!/usr/bin/env bash
# Two containers share an LMDB directory on a volume, as two processes of one machine may: that is what LMDB is made for.
#
# One would guess: it works, since all locks are in the files; or it never works, since process ids mean nothing to the
#   other container.
# What happens: it works, both ways, as long as the two processes have different ids inside their containers. If both are,
#   say, process 1, as the only process of a container is, the second can't even open: "Resource temporarily unavailable",
#   which reads as if trying again helped. LMDB keeps a lock on the byte whose place is the process id.
# Consequence: a pair of containers that share a replica works or fails by chance of numbering, at each start anew. Let them
#   share a process namespace (Docker's `pid: service:...`, Kubernetes' shareProcessNamespace), or give each its own replica.
#
# lmdb 3.0.0 (its engine 0.9.36), unshare of util-linux for the namespaces. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

container=(unshare --user --map-root-user --pid --kill-child --fork)
[ "$(id -u)" != 0 ] || container=(unshare --pid --kill-child --fork)
"${container[@]}" true 2>/dev/null || { echo "unshare (util-linux 2.34 or newer) must be allowed to make a namespace of process ids" >&2; exit 2; }

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lmdb==3.0.0

cat >"$folder/probe.py" <<'PYTHON'
import os
import sys
import time
from pathlib import Path

import lmdb

role, folder = sys.argv[1], Path(sys.argv[2])
ready, done = folder / "ready", folder / "done"
pid = os.getpid()


def wait_for(file):
    for _ in range(200):
        if file.exists():
            return
        time.sleep(0.1)
    sys.exit(f"no {file.name}")


if role == "first":
    with lmdb.open(str(folder / "replica"), map_size=1 << 20) as env:
        with env.begin(write=True) as transaction:
            transaction.put(b"key", b"1")
        with env.begin() as transaction:
            assert transaction.get(b"key") == b"1"
        print(f"the first has id {pid}, and keeps the directory open")
        ready.touch()
        wait_for(done)
        with env.begin() as transaction:
            print("at the end the first reads", transaction.get(b"key").decode())
else:
    wait_for(ready)
    try:
        with lmdb.open(str(folder / "replica"), map_size=1 << 20) as env:
            with env.begin(write=True) as transaction:
                transaction.put(b"key", b"2")
            print(f"the second has id {pid}, and writes")
    except lmdb.Error as error:
        print(f"the second has id {pid}, and fails: {type(error).__name__}: {error}")
    done.touch()
PYTHON

# The extra shell is process 1, so that Python is another one.
pair() {
    local kind=$1 data=$folder/$1
    mkdir "$data"
    timeout 60 "${container[@]}" "$folder/venv/bin/python" "$folder/probe.py" first "$data" >"$data/first" &
    if [ "$kind" = same ]; then
        timeout 60 "${container[@]}" "$folder/venv/bin/python" "$folder/probe.py" second "$data" >"$data/second"
    else
        timeout 60 "${container[@]}" bash -c '"$@"; true' - "$folder/venv/bin/python" "$folder/probe.py" second "$data" >"$data/second"
    fi
    wait
    cat "$data/first" "$data/second"
}
echo "-- the same id"
pair same
echo "-- different ids"
pair different
grep -q "has id 1, and fails: LockError: .*Resource temporarily unavailable" "$folder/same/second" &&
    grep -q "at the end the first reads 1" "$folder/same/first" &&
    grep -q "and writes" "$folder/different/second" && grep -q "at the end the first reads 2" "$folder/different/first" ||
    { echo "this is no longer what was seen on 2026-11-28" >&2; exit 1; }
echo "as described"
