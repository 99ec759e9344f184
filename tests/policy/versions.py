"""Runs the policy in the oldest and the newest version of each framework and server that its page names.

python tests/policy/versions.py              all of them, some minutes: each in a virtual environment of its own
python tests/policy/versions.py flask uwsgi  those whose name begins so

What it prints is the table in docs/reference/policy.md. In each environment there is nothing of Keywright's but the
package itself, lmdb and httpx2.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import origin as origins
from support.api import ACCOUNT_URL, BUCKET
from support.origin import Origin
from support.ports import free_port
from support.process import until

ROOT = Path(__file__).resolve().parents[2]
APP = "policy.versions_app:application"
UVICORN = ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", APP]
GUNICORN = ["gunicorn", "-b", "127.0.0.1:{port}", APP]
OLD, NEW = "3.11", "3.13"


class Case(NamedTuple):
    """`oldest` and `newest` are what is installed; the table tells the version of the first."""

    kind: str
    command: list[str]
    oldest: str
    newest: str


def gunicorn(*more: str) -> list[str]:
    return ["gunicorn", *more, "-b", "127.0.0.1:{port}", APP]


CASES = {
    "starlette": Case("starlette", UVICORN, "starlette==0.21.0 uvicorn", "starlette uvicorn"),
    "fastapi": Case("fastapi", UVICORN, "fastapi==0.100.0 uvicorn", "fastapi uvicorn"),
    "fastapi-0.110": Case("fastapi", UVICORN, "fastapi==0.110.0 uvicorn", "fastapi==0.120.4 uvicorn"),
    "litestar": Case("litestar", UVICORN, "litestar==2.0.1 uvicorn", "litestar uvicorn"),
    "django-wsgi": Case("django_wsgi", GUNICORN, "django==4.2 gunicorn", "django gunicorn"),
    "django-asgi": Case("django_asgi", UVICORN, "django==4.2 uvicorn", "django uvicorn"),
    "djangorestframework": Case(
        "drf", GUNICORN, "djangorestframework==3.14.0 django==4.2 gunicorn pytz", "djangorestframework gunicorn"
    ),
    "flask": Case("flask", GUNICORN, "flask==2.0.3 werkzeug==2.0.3 gunicorn", "flask gunicorn"),
    "gunicorn": Case("plain_wsgi", gunicorn("--workers", "2"), "gunicorn==20.1.0 setuptools<81", "gunicorn"),
    "gunicorn-gthread": Case(
        "plain_wsgi", gunicorn("-k", "gthread", "--threads", "4", "--preload"),
        "gunicorn==20.1.0 setuptools<81", "gunicorn",
    ),
    "gunicorn-gevent": Case(
        "plain_wsgi", gunicorn("-k", "gevent", "--preload"),
        "gunicorn==20.1.0 setuptools<81 gevent==22.10.2", "gunicorn gevent packaging",
    ),
    "gunicorn-eventlet": Case(
        "plain_wsgi", gunicorn("-k", "eventlet"),
        "gunicorn==21.2.0 eventlet==0.33.3", "gunicorn<26 eventlet",
    ),
    "gunicorn-uvicorn": Case(
        "plain_asgi", gunicorn("-k", "uvicorn.workers.UvicornWorker"),
        "gunicorn==20.1.0 setuptools<81 uvicorn==0.20.0", "gunicorn uvicorn==0.34.3",
    ),
    "uvicorn": Case("plain_asgi", UVICORN, "uvicorn==0.20.0", "uvicorn"),
    "hypercorn": Case(
        "plain_asgi", ["hypercorn", "-b", "127.0.0.1:{port}", APP], "hypercorn==0.14.4", "hypercorn"
    ),
    "granian-asgi": Case(
        "plain_asgi", ["granian", "--interface", "asgi", "--port", "{port}", APP], "granian==1.0.2", "granian"
    ),
    "granian-wsgi": Case(
        "plain_wsgi", ["granian", "--interface", "wsgi", "--port", "{port}", APP], "granian==1.0.2", "granian"
    ),
    "uwsgi": Case(
        "plain_wsgi",
        ["uwsgi", "--http", "127.0.0.1:{port}", "--master", "--processes", "2", "--enable-threads", "--need-app",
         "--die-on-term", "--module", "policy.versions_app:application", "--pythonpath", str(ROOT / "tests")],
        "uwsgi==2.0.21", "uwsgi",
    ),
}  # fmt: skip


def main(names: list[str]) -> int:
    chosen = [name for name in CASES if not names or name.startswith(tuple(names))]
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        with origins.running(directory / "origin") as origin:
            for name in chosen:
                told = [_outcome(name, age, origin, directory) for age in ("oldest", "newest")]
                failed += sum("FAILED" in one for one in told)
                print(f"| {name} | {told[0]} | {told[1]} |", flush=True)
    return failed


def _outcome(name: str, age: str, origin: Origin, directory: Path) -> str:
    case = CASES[name]
    place = directory / f"{name}-{age}"
    wanted = (case.oldest if age == "oldest" else case.newest).split()
    try:
        _install(place / "venv", OLD if age == "oldest" else NEW, wanted)
        with _serving(case, place, origin) as port:
            _judge(origin, port)
    except Exception as error:  # noqa: BLE001
        log = place / "log"
        print(name, age, repr(error), log.read_text()[-3000:] if log.exists() else "", sep="\n", file=sys.stderr)
        return "FAILED"
    return _versions(place / "venv", wanted)


def _install(venv: Path, python: str, wanted: list[str]) -> None:
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", python, str(venv)], check=True)
    install = [*uv, "pip", "install", "-q", "--python", str(venv / "bin/python")]
    subprocess.run([*install, *wanted, "lmdb", "httpx2"], check=True)
    subprocess.run([*install, "--no-deps", "-e", str(ROOT)], check=True)


@contextmanager
def _serving(case: Case, place: Path, origin: Origin) -> Iterator[int]:
    port = free_port()
    command = [part.format(port=port) for part in case.command]
    variables = {
        "PATH": f"{place}/venv/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "tests"), "APP_KIND": case.kind,
        "APP_URL": origin.url, "APP_TOKEN": origin.token, "APP_PEPPER": str(origin.pepper_file),
        "APP_DIRECTORY": str(place / "keys"), "APP_BUCKET": BUCKET, "HOME": os.environ.get("HOME", "/"),
    }  # fmt: skip
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [place / "venv/bin" / command[0], *command[1:]],
            env=variables, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or _ask(port, None) == (401, ""), timeout=30)
        yield port
        process.terminate()
        process.wait(30)
        # Servers have some of their own at the end; none of ours may be among them.
        assert "keywright/policy" not in (place / "log").read_text()
    finally:
        # Some servers that fail leave workers behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _judge(origin: Origin, port: int) -> None:
    name = origin.api.new_consumer()["name"]
    key = origin.api.new_key(name)
    until(lambda: _ask(port, key["key"])[0] == 200, timeout=20)
    for _ in range(5):
        status, body = _ask(port, key["key"])
        assert (status, name in body) == (200, True), (status, body)
        assert _ask(port, None)[0] == _ask(port, "zpka_nobody_has_this")[0] == 401
    origin.api.call("DELETE", f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{name}/keys/{key['id']}", expect=204)
    # Nobody asks meanwhile: what follows the record must have its turn without requests, too.
    time.sleep(3)
    assert {_ask(port, key["key"])[0] for _ in range(10)} == {401}


def _ask(port: int, key: str | None) -> tuple[int, str]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/name", headers={} if key is None else {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode() if answer.status == 200 else ""
    except OSError:
        return 0, ""
    finally:
        connection.close()


def _versions(venv: Path, wanted: list[str]) -> str:
    """The versions of the packages that were asked for, and of Python."""
    names = [part.split("==")[0].split("<")[0] for part in wanted]
    script = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    shown = [name for name in names if name not in ("setuptools", "pytz", "packaging")]
    done = subprocess.run([venv / "bin/python", "-c", script, *shown], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
