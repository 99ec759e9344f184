#!/usr/bin/env bash
# An nginx server gives a variable a default with `set`, a location gives it another value, and makes a subrequest.
#
# One would guess: the subrequest sees the location's value. Variables are shared between a request and its subrequests,
#   and the location's `set` came last.
# What happens: a subrequest goes through the server's rewrite phase again, so the server's `set` is run once more. The
#   subrequest sees the default, and the request itself has the default from then on.
# Consequence: what a route tells auth_request must not be carried in a variable that has a default for the whole server.
#   One that is set in locations only is handed on; so is a literal address for each route.
#
# nginx 1.22.1 of Debian 12 (apt-get install nginx-light). Run on 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

command -v nginx >/dev/null || { echo "nginx is missing: apt-get install nginx-light (Debian 12)" >&2; exit 2; }
case "$(nginx -v 2>&1)" in *nginx/1.22.1*) ;; *) echo "this is about nginx 1.22.1, here is: $(nginx -v 2>&1)" >&2; exit 2 ;; esac
nginx -V 2>&1 | grep -q http_auth_request_module || { echo "this nginx has no auth_request" >&2; exit 2; }

cat >"$folder/nginx.conf" <<CONFIG
daemon off;
pid $folder/pid;
error_log $folder/error.log;
events {}
http {
  log_format asked '\$with_default \$without';
  access_log off;
  client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3;
  uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
  server {
    listen unix:$folder/http;
    set \$with_default default;
    location / {
      set \$with_default route;
      set \$without route;
      auth_request /ask;
      add_header X-Now "\$with_default \$without" always;
      try_files /none =404;
    }
    location = /ask {
      internal;
      log_subrequest on;
      access_log $folder/asked.log asked;
      return 204;
    }
  }
}
CONFIG
nginx -c "$folder/nginx.conf" 2>"$folder/start.log" &

cat >"$folder/probe.py" <<'PYTHON'
import socket
import sys
import time

folder = sys.argv[1]
with socket.socket(socket.AF_UNIX) as connection:
    for _ in range(200):
        try:
            connection.connect(f"{folder}/http")
            break
        except OSError:
            time.sleep(0.05)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
after = next(line.partition(": ")[2] for line in answer.splitlines() if line.startswith("X-Now"))
asked = open(f"{folder}/asked.log").read().strip()
print(f"with a default for the server, and without: the subrequest saw {asked!r}, the request has {after!r} afterwards")
if (asked, after) != ("default route", "default route"):
    sys.exit("this is no longer what was seen on 2026-11-29")
PYTHON
timeout 60 "${PYTHON:-python3}" "$folder/probe.py" "$folder"
echo "as described"
