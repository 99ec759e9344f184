"""A server whose workers patch threads and sockets after the app was imported: gunicorn with gevent and --preload."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from policy.test_servers import ask, serving
from support.api import ACCOUNT_URL, BUCKET
from support.origin import Origin
from support.process import until
from support.proxy import Proxy


def test_a_worker_answers_while_its_replica_waits_for_an_origin_that_is_away(origin: Origin, tmp_path: Path) -> None:
    consumer = origin.api.new_consumer()["name"]
    made = origin.api.new_key(consumer)
    with Proxy(origin.served.port) as link:
        link.cut()
        variables = {"APP_URL": f"http://127.0.0.1:{link.port}", "APP_READY_SECONDS": "2"}
        with serving("gunicorn-gevent", "embedded", origin, tmp_path, **variables) as port:
            with ThreadPoolExecutor(10) as pool:
                began = time.monotonic()
                waiting = [pool.submit(ask, port, made["key"]) for _ in range(10)]
                time.sleep(0.5)
                assert ask(port, None, path="/health")[0] == 200
                assert time.monotonic() - began < 1.5
                assert [one.result()[0] for one in waiting] == [503] * 10
                # Each waits from when the replica was begun to be opened, and not for the others.
                assert 1.5 < time.monotonic() - began < 5
                again = time.monotonic()
                assert ask(port, made["key"])[0] == 503
                assert time.monotonic() - again < 1
            link.heal()
            until(lambda: ask(port, made["key"])[0] == 200, timeout=30)
            with ThreadPoolExecutor(10) as pool:
                assert {status for status, _ in pool.map(lambda _: ask(port, made["key"]), range(50))} == {200}
            # What forks only to run something else is told nothing of forks.
            assert ask(port, made["key"], path="/command")[0] == 200
            assert "fork" not in (tmp_path / "server.log").read_text()
            url = f"{ACCOUNT_URL}/key-buckets/{BUCKET}/consumers/{consumer}/keys/{made['id']}"
            origin.api.call("DELETE", url, expect=204)
            until(lambda: ask(port, made["key"])[0] == 401)
