"""The database goes away and comes back: validations never notice, management says so and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from support.api import CONSUMERS_URL, VARIABLES, Api
from support.postgres import Postgres
from support.process import ServeProcess


def children_of(pid: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _parent_of(path) == pid
    ]  # fmt: skip


def _parent_of(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_validations_go_on_without_the_database_and_all_works_when_it_is_back(
    tmp_path: Path, postgres: Postgres
) -> None:
    arguments = ("--database-url", postgres.new_database(), "--workers", "2")
    with ServeProcess(tmp_path / "data", *arguments, **VARIABLES).wait_until_ready() as served:
        api = Api(served)
        consumer = api.new_consumer(apiKeys=[{}])
        key = consumer["apiKeys"][0]["key"]
        url = f"{CONSUMERS_URL}/{consumer['name']}"
        postgres.stop(signal.SIGINT)
        try:
            for method, path, body in (
                ("GET", url, None),
                ("POST", f"{url}/keys", {}),
                ("DELETE", url, None),
                ("GET", "/v1/who-am-i", None),
            ):
                answer = api.call(method, path, json=body, expect=503)
                assert (answer["title"], answer["status"]) == ("Service Unavailable", 503)
                assert "nothing was changed" in answer["detail"]
            assert {api.validate_anew(key)["code"] for _ in range(20)} == {"VALID"}
            assert api.get("/readyz").json()["ready"]
            wait_for(lambda: not api.get("/readyz").json()["synced"])

            # A worker that dies now is replaced by one that starts without the record.
            workers = children_of(served.process.pid)
            for worker in workers:
                if "resource_tracker" not in Path(f"/proc/{worker}/cmdline").read_text():
                    os.kill(worker, signal.SIGKILL)
            wait_for(lambda: _is_answering(served))
            with Api(served) as anew:
                assert {anew.validate_anew(key)["code"] for _ in range(20)} == {"VALID"}
                anew.call("GET", url, expect=503)
        finally:
            postgres.start()

        with Api(served) as back:
            wait_for(lambda: back.get(url).status_code == 200)
            back.call("DELETE", url, expect=204)
            assert {back.validate_anew(key)["code"] for _ in range(20)} == {"UNKNOWN"}
            wait_for(lambda: bool(back.get("/readyz").json()["synced"]))
        log = served.output()
        assert "Traceback" not in log
        assert served.stop() == 0


def _is_answering(served: ServeProcess) -> bool:
    with Api(served) as api:
        try:
            return api.get("/readyz").status_code == 200
        except Exception:  # noqa: BLE001
            return False


def test_connections_that_died_with_the_server_fail_no_request_after_it_is_back(
    tmp_path: Path, postgres: Postgres
) -> None:
    arguments = ("--database-url", postgres.new_database())
    with ServeProcess(tmp_path / "data", *arguments, **VARIABLES).wait_until_ready() as served:
        api = Api(served)
        names = [api.new_consumer()["name"] for _ in range(5)]
        postgres.stop(signal.SIGQUIT)
        postgres.start()
        assert [api.get(f"{CONSUMERS_URL}/{name}").status_code for name in names] == [200] * 5
        assert api.verdict(api.new_key(names[0])["key"]) == "VALID"
