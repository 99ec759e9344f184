"""Several workers on one replica: the next request after a change sees it, on whichever worker it lands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.api import CONSUMERS_URL, VARIABLES, Api
from support.process import ServeProcess

ROUNDS = 15
ASKED = 24


def test_no_worker_gives_a_stale_answer_after_a_change(tmp_path: Path) -> None:
    with (
        ServeProcess(tmp_path / "data", "--workers", "4", **VARIABLES).wait_until_ready() as served,
        ThreadPoolExecutor(8) as pool,
    ):
        api = Api(served)

        def ask(key: str) -> list[tuple[str, object]]:
            """What is answered on many connections, each of them new."""
            answers = pool.map(lambda _: api.validate_anew(key), range(ASKED))
            return [(answer["code"], answer.get("user", {}).get("data")) for answer in answers]

        for number in range(ROUNDS):
            made = api.new_consumer(apiKeys=[{}, {}, {}], metadata={"round": number})
            first, second, third = made["apiKeys"]
            url = f"{CONSUMERS_URL}/{made['name']}"
            assert ask(first["key"]) == [("VALID", {"round": number})] * ASKED
            api.call("PATCH", url, json={"metadata": {"changed": number}})
            assert ask(first["key"]) == [("VALID", {"changed": number})] * ASKED
            api.call("DELETE", f"{url}/keys/{first['id']}", expect=204)
            assert ask(first["key"]) == [("UNKNOWN", None)] * ASKED
            api.call("POST", f"{url}/roll-key", expect=204, json={})
            assert ask(second["key"]) == [("EXPIRED", None)] * ASKED
            api.call("DELETE", url, expect=204)
            assert ask(third["key"]) == [("UNKNOWN", None)] * ASKED

        assert "Traceback" not in served.output()
