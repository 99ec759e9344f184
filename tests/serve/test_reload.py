"""SIGHUP replaces the workers one after the other, beside traffic that does not notice."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from support.api import BUCKET, VARIABLES, Api
from support.process import ServeProcess, until
from support.stopped import workers_of

CALLERS = 4


class Load:
    """Callers that validate a key all the time: some on a connection for each request, on which it comes at once or a
    moment later, some on one that they keep.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port, self._body = port, json.dumps({"key": key})
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self._callers = [
            threading.Thread(target=self._call, args=(number % 2 == 0, number % 4 / 10)) for number in range(CALLERS)
        ]

    def __enter__(self) -> Load:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for caller in self._callers:
            caller.join()

    def _call(self, is_kept: bool, pause: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        is_used = False
        while not self._stop.is_set():
            try:
                headers = {"content-type": "application/json"}
                if not is_kept:
                    connection.connect()
                    time.sleep(pause)
                connection.request("POST", f"/v1/validate/{BUCKET}", self._body, headers)
                answer = connection.getresponse()
                outcome = json.loads(answer.read()).get("code", str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                # A server may close a connection between two requests, which a client answers by a new one
                # (RFC 9112 section 9.3.1).
                is_between = is_used and isinstance(error, (http.client.RemoteDisconnected, ConnectionError))
                outcome = "closed between requests" if is_between else f"{type(error).__name__}: {error}"
                connection.close()
                is_used = False
            else:
                is_used = is_kept
            if not is_used:
                connection.close()
            self.outcomes[outcome] += 1
        connection.close()


def test_no_request_is_refused_while_all_workers_of_serve_are_replaced(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", "--workers", "2", KEYWRIGHT_LOG_LEVEL="info", **VARIABLES) as served:
        api = Api(served.wait_until_ready())
        until(lambda: served.output().count("is ready") == 2)
        key = api.new_key(api.new_consumer()["name"])["key"]
        before = set(workers_of(served))
        snapshots = served.output().count("took a snapshot")
        with Load(served.port, key) as load:
            until(lambda: load.outcomes["VALID"] > 100)
            served.process.send_signal(signal.SIGHUP)
            until(lambda: not set(workers_of(served)) & before, timeout=60)
            answered = load.outcomes["VALID"]
            until(lambda: load.outcomes["VALID"] > answered + 100)
        assert set(load.outcomes) <= {"VALID", "closed between requests"}, load.outcomes
        assert len(workers_of(served)) == 2
        assert served.output().count("took a snapshot") == snapshots
        assert api.verdict(key) == "VALID"
        assert served.stop() == 0
        assert "Traceback" not in served.output()


def test_workers_go_on_when_no_new_one_gets_ready(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", KEYWRIGHT_LOG_LEVEL="info", **VARIABLES) as served:
        api = Api(served.wait_until_ready())
        key = api.new_key(api.new_consumer()["name"])["key"]
        before = workers_of(served)
        pepper = tmp_path / "data" / "pepper.key"
        pepper.rename(pepper.with_name("elsewhere"))
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "the new worker did not get ready" in served.output(), timeout=60)
        assert workers_of(served) == before
        assert api.verdict(key) == "VALID"
        pepper.with_name("elsewhere").rename(pepper)
        served.process.send_signal(signal.SIGHUP)
        until(lambda: workers_of(served) not in ([], before) and len(workers_of(served)) == 1, timeout=60)
        until(lambda: api.verdict(key) == "VALID")
        assert served.stop() == 0
