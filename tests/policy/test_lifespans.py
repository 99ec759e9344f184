"""The source lives as long as the app, and a start that fails behind the policy, or in it, is a failed start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from keywright.policy.asgi import ApiKeyPolicy
from policy.keys import BEARER, Keys
from policy.test_asgi import Probe, ask, protected
from policy.test_servers import TESTS
from support.ports import free_port


async def live(app: Any, messages: list[Any] | None = None) -> list[str]:
    """A whole life of an application: what it answered."""
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = [] if messages is None else messages

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan", "state": {}}, receive, send)
    return [message["type"] for message in sent]


WHOLE_LIFE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_the_source_lives_as_long_as_the_app() -> None:
    keys = Keys()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        keys.steps.append("app starts")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        keys.steps.append("app stops")
        await send({"type": "lifespan.shutdown.complete"})

    assert await live(ApiKeyPolicy(app, keys, bucket_name="my-bucket")) == WHOLE_LIFE
    assert keys.steps == ["open", "app starts", "app stops", "close"]


async def test_the_source_of_an_app_that_ignores_its_lifespan_lives_as_long_as_the_server() -> None:
    async def ignoring(scope: Any, receive: Any, send: Any) -> None:
        return

    keys = Keys()
    assert await live(ApiKeyPolicy(ignoring, keys, bucket_name="my-bucket")) == WHOLE_LIFE
    assert keys.steps == ["open", "close"]


async def test_what_an_app_raises_in_its_lifespan_is_the_servers_to_judge() -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("http only")

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("no database")

    async def failing_at_the_end(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("not tidy")

    for app, error, steps in (
        (refusing, "http only", []),
        (failing, "no database", ["open", "close"]),
        (failing_at_the_end, "not tidy", ["open", "close"]),
    ):
        keys = Keys()
        policy = ApiKeyPolicy(app, keys, bucket_name="my-bucket")
        with pytest.raises(ValueError, match=error):
            await live(policy)
        assert keys.steps == steps


async def test_a_source_that_can_not_be_opened_is_a_failed_start_with_the_reason() -> None:
    class Broken(Keys):
        def open(self) -> None:
            raise OSError("no pepper")

    async def knowing(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except OSError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise

    async def ignoring(scope: Any, receive: Any, send: Any) -> None:
        return

    for app in (knowing, ignoring):
        said: list[Any] = []
        assert await live(ApiKeyPolicy(app, Broken(), bucket_name="b"), said) == ["lifespan.startup.failed"]
        assert said[0]["message"] == "OSError: no pepper"


async def test_a_source_that_can_not_be_opened_at_a_request_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    def configured() -> Any:
        raise LookupError("KEYWRIGHT_EDGE_TOKEN")

    probe = Probe()
    policy = ApiKeyPolicy(probe, configured, bucket_name="b", allow_unauthenticated_requests=True)
    assert [(await ask(policy, headers=BEARER)).status for _ in range(3)] == [503] * 3
    assert len([record for record in caplog.records if "can't be opened" in record.message]) == 1
    assert probe.scopes == []


async def test_a_source_may_be_made_when_it_is_first_needed_and_once_for_all_policies() -> None:
    made: list[Keys] = []

    def configured() -> Keys:
        made.append(Keys())
        return made[-1]

    policies = [ApiKeyPolicy(Probe(), configured, bucket_name="b") for _ in range(2)]
    assert made == []
    assert [(await ask(policy, headers=BEARER)).status for policy in policies] == [200, 200]
    assert len(made) == 1


def test_the_policy_says_at_the_start_that_it_runs_on_asyncio_only() -> None:
    said: list[Any] = []
    assert trio.run(live, ApiKeyPolicy(Probe(), Keys(), bucket_name="b"), said) == ["lifespan.startup.failed"]
    assert "asyncio only" in said[0]["message"]


async def test_an_app_that_fails_to_start_is_not_made_to_look_started() -> None:
    keys = Keys()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    assert await live(ApiKeyPolicy(app, keys, bucket_name="my-bucket")) == ["lifespan.startup.failed"]
    assert keys.steps == ["open", "close"]


async def test_where_the_server_has_no_lifespan_the_first_request_opens_the_source() -> None:
    _, keys, policy = protected()
    for _ in range(2):
        await ask(policy, headers=BEARER)
    assert keys.steps == ["open"]


@pytest.mark.parametrize(
    ("app", "lifespan", "said"),
    [
        ("RAISING", "on", "no database"),
        ("WITHOUT_PEPPER", "on", "pepper.key is missing"),
        # Of an application's own exception a server that only tries lifespans makes nothing, but of a failure it does.
        ("WITHOUT_PEPPER", "auto", "pepper.key is missing"),
    ],
)
def test_a_start_that_fails_ends_uvicorn(tmp_path: Path, app: str, lifespan: str, said: str) -> None:
    arguments = ["--lifespan", lifespan, "--host", "127.0.0.1", "--port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", *arguments, f"policy.failing:{app}"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "APP_DIRECTORY": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert "startup complete" not in done.stderr
