#!/usr/bin/env bash
# Granian is told to replace workers that die (--respawn-failed-workers), and one of three dies twice in a row.
#
# One would guess: it is replaced again, perhaps after a longer and longer pause; the two others go on answering.
# What happens: a worker that dies within 5.5 s of having been put in another's place counts as a crash loop of the whole
#   server: it ends with code 1, and the two that were well end with it. Two different workers that die at the same moment
#   are both replaced; only the same place twice is too much. The 5.5 s are fixed.
# Consequence: "workers are replaced" needs somebody above who starts the server anew (systemd, a container's restart
#   policy). A worker that the kernel kills twice for its memory takes the endpoint away, not a third of it.
#
# granian 2.8.7, on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check granian==2.8.7

cat >"$folder/app.py" <<'PYTHON'
async def app(scope, protocol):
    protocol.response_str(200, [], "well")
PYTHON

cat >"$folder/probe.py" <<'PYTHON'
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])


def workers(log, count):
    """The process ids of the workers that have been started so far, once there are so many."""
    for _ in range(100):
        text = log.read_text()
        if len(re.findall(r"Started worker-\d$", text, re.MULTILINE)) >= count:
            return [int(one) for one in re.findall(r"Spawning worker-\d with PID: (\d+)", text)]
        time.sleep(0.1)
    sys.exit("the workers did not start:\n" + log.read_text())


def run(kill):
    """What became of the server once `kill` was done with it, and its log."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    log = folder / "log"
    options = ["--workers", "3", "--respawn-failed-workers", "--respawn-interval", "0.1"]
    granian = [folder / "venv/bin/granian", "--interface", "rsgi", "--port", str(port), *options, "app:app"]
    with log.open("w") as out:
        process = subprocess.Popen(granian, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        kill(log)
        try:
            return f"ended with code {process.wait(4)}", log.read_text()
        except subprocess.TimeoutExpired:
            return "goes on", log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def the_same_twice(log):
    os.kill(workers(log, 3)[0], signal.SIGKILL)
    os.kill(workers(log, 4)[3], signal.SIGKILL)


def two_at_once(log):
    for pid in workers(log, 3)[:2]:
        os.kill(pid, signal.SIGKILL)


twice, text = run(the_same_twice)
print(f"one worker died twice: the server {twice}")
for line in text.splitlines():
    if re.search(r"crash loop|Stopping worker-\d$", line):
        print(line)
at_once, _ = run(two_at_once)
print(f"two workers died at once: the server {at_once}")
if (twice, at_once) != ("ended with code 1", "goes on") or "crash loop detected" not in text:
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
