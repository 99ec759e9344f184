#!/usr/bin/env bash
# gunicorn with the gevent worker, both installed by name, as it was done for years: pip install gunicorn gevent.
#
# One would guess: it starts; gevent is all that the worker class asks for, and gunicorn itself has needed nothing else since long.
# What happens: the worker's module imports `packaging`, which gunicorn 27 asks for in the extra `gevent` only: no worker
#   class, no server. In a development environment some other package has brought `packaging` along, so it is the slim
#   production image in which the deployment fails.
# Consequence: install `gunicorn[gevent]`, not `gunicorn gevent`.
#
# gunicorn 27.0.1, gevent 26.9.0. Run on 2026-11-28.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

install() {
    "${PYTHON:-python3}" -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}" 2>"$folder/pip" || { cat "$folder/pip"; exit 2; }
}

start() {
    # One that starts is ended after a while.
    (cd "$folder" && timeout 10 "$folder/$1/bin/gunicorn" -k gevent -b 127.0.0.1:0 app:app >"$folder/log" 2>&1) || true
    grep -m 1 ModuleNotFoundError "$folder/log" || { grep -q "Booting worker" "$folder/log" && echo starts; }
}

install plain gunicorn==27.0.1 gevent==26.9.0
install extra "gunicorn[gevent]==27.0.1" gevent==26.9.0
printf 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"ok"]\n' >"$folder/app.py"

plain=$(start plain)
extra=$(start extra)
echo "gunicorn gevent:   $plain"
echo "gunicorn[gevent]:  $extra"
case "$plain" in
*"No module named 'packaging'"*) ;;
*) echo "this is no longer what was seen on 2026-11-28"; exit 1 ;;
esac
[ "$extra" = starts ] || { echo "this is no longer what was seen on 2026-11-28"; exit 1; }
echo "as described"
