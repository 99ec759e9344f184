#!/usr/bin/env bash
# A HAProxy map is filled anew beside the live one (`prepare map`, `add map @1`), and meanwhile one entry changes.
#
# One would guess: a command without `@version` works on the live version only, so it has to be said again for the new one.
# What happens: `set map` and `del map` work on all versions at once, also on those that are prepared and not yet committed;
#   neither takes a version. `add map` and `get map` see one version only. So for a key that is only in the prepared version
#   `get map` says found=no, and yet `set map` says nothing, which is success, and changes what nobody sees.
# Consequence: "set, and add where set says `entry not found`" leaves a key out of the live map while a new one is prepared:
#   it is refused until the commit. Ask `get map` first, or fill and change in turn, as Keywright does. A revocation by
#   `del map` during a refill is safe: it does not come back with the commit, unless it is added after.
#
# HAProxy 2.6.12 of Debian 12 (apt-get install haproxy). Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

command -v haproxy >/dev/null || { echo "haproxy is missing: apt-get install haproxy (Debian 12)" >&2; exit 2; }
version=$(haproxy -v)
version=${version%%$'\n'*}
case $version in *" 2.6.12-"*) ;; *) echo "this is about HAProxy 2.6.12, here is: $version" >&2; exit 2 ;; esac

cat >"$folder/haproxy.cfg" <<CONFIG
global
    stats socket $folder/socket level admin
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend keys
    bind unix@$folder/http
    http-request return status 200 content-type text/plain lf-string "%[req.hdr(key),map($folder/keys.map,none)]"
CONFIG
echo "# empty" >"$folder/keys.map"
haproxy -f "$folder/haproxy.cfg" -db >"$folder/log" 2>&1 &

cat >"$folder/probe.py" <<'PYTHON'
import socket
import sys
import time

folder = sys.argv[1]
map_ = f"{folder}/keys.map"


def talk(file, text):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(f"{folder}/{file}")
        one.sendall(text.encode())
        return b"".join(iter(lambda: one.recv(65536), b"")).decode()


def say(command):
    answer = talk("socket", f"{command} \n".replace("MAP", map_)).strip()
    print(f"{command:24} {answer.replace(map_, 'MAP') or '(done)'}")
    return answer


def entries(version):
    return [line.split(" ", 1)[1] for line in talk("socket", f"show map {version} {map_}\n").strip().splitlines()]


def look_up(key):
    answer = talk("http", f"GET / HTTP/1.1\r\nHost: x\r\nkey: {key}\r\nConnection: close\r\n\r\n")
    return answer.split("\r\n\r\n")[1]


for _ in range(100):
    try:
        talk("socket", "show info\n")
        break
    except OSError:
        time.sleep(0.1)
seen = []
say("add map MAP a before")
say("add map MAP b before")
say("prepare map MAP")
for key in "abc":
    say(f"add map @1 MAP {key} new")
say("set map MAP a changed")
say("del map MAP b")
found = "found=yes" in say("get map MAP c")
done = say("set map MAP c changed") == ""
prepared = entries("@1")
print("prepared meanwhile:", prepared)
live = {key: look_up(key) for key in "abc"}
print("looked up:", live)
say("commit map @1 MAP")
committed = {key: look_up(key) for key in "abc"}
print("looked up after the commit:", committed)
if (prepared, found, done, live, committed) != (
    ["a changed", "c changed"],
    False,
    True,
    {"a": "changed", "b": "none", "c": "none"},
    {"a": "changed", "b": "none", "c": "changed"},
):
    sys.exit("this is no longer what was seen on 2026-11-28")
PYTHON
timeout 30 "${PYTHON:-python3}" "$folder/probe.py" "$folder"
echo "as described"
