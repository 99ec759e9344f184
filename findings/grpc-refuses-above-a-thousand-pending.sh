#!/usr/bin/env bash
# One client sends 2,000 unary calls at once, over one connection, to a server of grpc.aio that answers each in an instant.
#
# One would guess: without `maximum_concurrent_rpcs` a server has no limit of its own; calls wait their turn.
# What happens: the core keeps about 1,000 calls that Python has not taken yet, and ends some of those above, by lot,
#   with CANCELLED (223 of 2,000 when this was written). With `grpc.server.max_pending_requests` (and its `_hard_limit`) set higher, all are answered.
# Consequence: whoever judges requests behind a gateway over gRPC must set both, or a burst is an outage of good keys.
#
# grpcio 1.85.1. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1

cat >"$folder/probe.py" <<'PYTHON'
import asyncio
import collections
import sys

import grpc
from grpc import aio

CALLS = 2000
HIGHER = [("grpc.server.max_pending_requests", 10_000), ("grpc.server.max_pending_requests_hard_limit", 20_000)]


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(request, context):
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


async def ask(options):
    server = aio.server(options=options)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/echo/Echo")
        await call(b"the connection is there")

        async def one():
            try:
                await call(b"x")
            except aio.AioRpcError as error:
                return error.code().name
            return "OK"

        told = collections.Counter(await asyncio.gather(*(one() for _ in range(CALLS))))
    await server.stop(0)
    return dict(told)


async def main():
    plain, higher = await ask([]), await ask(HIGHER)
    print("as it comes:       ", plain)
    print("with higher limits:", higher)
    if plain.get("OK", 0) == CALLS or higher != {"OK": CALLS}:
        sys.exit("this is no longer what was seen on 2026-11-28")


asyncio.run(main())
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/probe.py"
echo "as described"
