#!/usr/bin/env bash
# The main process of a Granian server is killed (kill -9, out of memory), and somebody starts the server again.
#
# One would guess: the workers end with their parent; or else the port is taken, and the new server says so and ends.
# What happens: the workers go on answering, for good. The new server starts without a word, since both listen with
#   SO_REUSEPORT, and the kernel spreads connections over old and new: about half of the answers are of the old code, with
#   the old settings. Nothing in the new server's log tells.
# Consequence: end the whole group (systemd's KillMode=control-group, a container), or try before the start whether the
#   port can be bound without SO_REUSEPORT, as Keywright does: then it refuses to start beside its own orphans.
#
# granian 2.8.7 on Linux, on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check granian==2.8.7

cat >"$folder/app.py" <<'PYTHON'
import os


async def app(scope, protocol):
    protocol.response_str(200, [], os.environ["RELEASE"])
PYTHON

cat >"$folder/probe.py" <<'PYTHON'
import collections
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

folder = Path(sys.argv[1])
with socket.create_server(("127.0.0.1", 0)) as one:
    port = one.getsockname()[1]


def ask():
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
        return answer.read().decode()


def start(release):
    log = folder / release
    granian = [folder / "venv/bin/granian", "--interface", "rsgi", "--port", str(port), "--workers", "2", "app:app"]
    environment = os.environ | {"RELEASE": release}
    with log.open("w") as out:
        # In a group of its own, so that orphans can be ended as well.
        process = subprocess.Popen(
            granian, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    groups.append(process.pid)
    for _ in range(100):
        if len(re.findall(r"Started worker-\d$", log.read_text(), re.MULTILINE)) == 2:
            return process
        time.sleep(0.1)
    sys.exit(f"the server did not start:\n{log.read_text()}")


groups = []
try:
    old = start("old")
    old.kill()
    old.wait()
    time.sleep(1)
    print(f"a second after its main process was killed, the {ask()} release answers")
    new = start("new")
    counts = collections.Counter(ask() for _ in range(200))
    print(f"of 200 answers after the new start: {counts['old']} old, {counts['new']} new")
    log = (folder / "new").read_text()
    complains = "ERROR" in log or "WARN" in log
    print("the new server complains:", complains)
    if counts["old"] < 20 or counts["new"] < 20 or complains:
        sys.exit("this is no longer what was seen on 2026-11-28")
finally:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
