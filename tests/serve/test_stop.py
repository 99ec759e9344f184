"""Being asked to end: what has begun is finished and answered, and kept."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import CONSUMERS_URL, VARIABLES, Api
from support.process import ServeProcess

CALLERS = 3
KEYS = 1000


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_requests_in_flight_are_finished_and_kept(tmp_path: Path, how: signal.Signals) -> None:
    data = tmp_path / "data"
    with ServeProcess(data, **VARIABLES).wait_until_ready() as served:
        names = [Api(served).new_consumer()["name"] for _ in range(CALLERS)]
        together = threading.Barrier(CALLERS + 1)

        def create(name: str) -> list[str]:
            api = Api(served)
            api.call("GET", "/livez")
            together.wait()
            made = api.call("POST", f"{CONSUMERS_URL}/{name}/keys/$bulk", json=[{}] * KEYS)
            return [key["key"] for key in made["data"]]

        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(create, name) for name in names]
            together.wait()
            # Long enough for the requests to have arrived, and far too short for three thousand keys.
            time.sleep(0.1)
            assert served.stop(how) == 0
            answers = [call.result() for call in calls]
        assert "Traceback" not in served.output()

    with ServeProcess(data, **VARIABLES).wait_until_ready() as again:
        api = Api(again)
        for name, keys in zip(names, answers, strict=True):
            listed = api.call("GET", f"{CONSUMERS_URL}/{name}/keys", params={"key-format": "visible"})
            assert [key["key"] for key in listed["data"]] == list(reversed(keys))
            assert api.verdict(keys[-1]) == "VALID"
