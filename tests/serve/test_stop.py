"""Being asked to end: what has begun is finished and answered, and kept."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keywright.protocol.frames import FrameSigner, FrameSplitter
from keywright.runtime.secret_files import load_digester
from support.api import CONSUMERS_URL, VARIABLES, Api
from support.process import ServeProcess

STREAM_END_SECONDS = 8.0
"""It takes one; without being told, a stream is let go of only after the 15 s that answers are given."""
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
            assert not all(call.done() for call in calls)
            assert served.stop(how) == 0
            answers = [call.result() for call in calls]
        assert "Traceback" not in served.output()

    with ServeProcess(data, **VARIABLES).wait_until_ready() as again:
        api = Api(again)
        for name, keys in zip(names, answers, strict=True):
            listed = api.call("GET", f"{CONSUMERS_URL}/{name}/keys", params={"key-format": "visible"})
            assert [key["key"] for key in listed["data"]] == list(reversed(keys))
            assert api.verdict(keys[-1]) == "VALID"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_streams_of_the_feed_do_not_hold_up_the_end(tmp_path: Path, how: signal.Signals) -> None:
    """An answer that has no end is told to end, or the server would wait for it as long as it waits for anything."""
    with ServeProcess(tmp_path / "data", **VARIABLES).wait_until_ready() as served:
        api = Api(served)
        headers = {"keywright-nonce": "nonce-of-16-chars"}
        # The first page of a snapshot tells, in its first frame, the cursor that the changes are asked after.
        frames = api.get("/v1/feed/snapshot", headers=headers).content
        signer = FrameSigner(load_digester(None, tmp_path / "data" / "pepper.key"))
        cursor = signer.decode(next(iter(FrameSplitter().feed(frames)))).cursor
        with api.stream("GET", f"/v1/feed/changes?after={cursor}", headers=headers) as stream:
            assert stream.status_code == 200
            pieces = stream.iter_raw()
            assert next(pieces)
            began = time.monotonic()
            assert served.stop(how) == 0
            assert time.monotonic() - began < STREAM_END_SECONDS
            for _ in pieces:
                pass
        assert "Traceback" not in served.output()
