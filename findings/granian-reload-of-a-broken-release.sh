#!/usr/bin/env bash
# SIGHUP makes Granian take its workers away one by one and put new ones there. The new release can't be imported.
#
# One would guess: the reload stops at the first new worker that fails, and the old ones go on, since all is well with them.
# What happens: nobody waits for a new worker to be up. The old one is ended after --respawn-interval whatever became of
#   the new one, then the next; when none is left the whole server ends with code 1. With --respawn-failed-workers too.
# Consequence: SIGHUP is no safe way to a new release. Start the new one beside the old one and move over when it is
#   ready, or check that it starts before the signal.
#
# granian 2.8.7, on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check granian==2.8.7

cat >"$folder/probe.py" <<'PYTHON'
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

folder = Path(sys.argv[1])
GOOD = 'async def app(scope, protocol):\n    protocol.response_str(200, [], "well")\n'


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def run(*more):
    (folder / "app.py").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    options = ["--interface", "rsgi", "--port", str(port), "--workers", "2", "--respawn-interval", "1", *more]
    with (folder / "log").open("w") as out:
        process = subprocess.Popen(
            [folder / "venv/bin/granian", *options, "app:app"],
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        for _ in range(100):
            if answers(port):
                break
            time.sleep(0.1)
        else:
            sys.exit("the server did not start")
        # A new release, and its mistake.
        (folder / "app.py").write_text('raise RuntimeError("this release does not start")\n')
        process.send_signal(signal.SIGHUP)
        code = process.wait(20)
        return code, answers(port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


described = (1, False)
for more in ((), ("--respawn-failed-workers",)):
    seen = run(*more)
    print(f"{' '.join(more) or 'by default'}: ends with code {seen[0]}, answers afterwards: {seen[1]}")
    if seen != described:
        sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 90 "$folder/venv/bin/python" -B "$folder/probe.py" "$folder"
echo "as described"
