"""A body is read no further than is allowed, and no longer; at every address that takes one a slow body is 408."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keywright.domain.problems import PayloadTooLarge, RequestTimeout
from keywright.edge.http.validate import ValidateApi
from keywright.http import body
from keywright.http.body import SlowBodies, read_bounded
from support.process import ServeProcess
from support.service import ROOT_KEY, Service

FORM = "application/x-www-form-urlencoded"


async def pieces(*parts: bytes, forever: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if forever:
        await asyncio.Event().wait()


@pytest.fixture
def is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(body, "PIECE_SECONDS", 0.05)
    monkeypatch.setattr(body, "LOOK_SECONDS", 0.01)


async def test_a_body_is_read_whole() -> None:
    assert await read_bounded(pieces(b"ab", b"", b"c"), 3, "too large") == b"abc"


async def test_a_body_is_read_no_further_than_it_may_be() -> None:
    with pytest.raises(PayloadTooLarge, match="too large"):
        await read_bounded(pieces(b"ab", b"cd", forever=True), 3, "too large")


@pytest.mark.parametrize("declared", ["4", "9" * 30])
async def test_a_body_that_says_that_it_is_too_large_is_not_read(declared: str) -> None:
    with pytest.raises(PayloadTooLarge):
        await read_bounded(pieces(forever=True), 3, "too large", declared)


async def test_a_body_that_does_not_come_in_time_is_408(is_quick: None) -> None:
    with pytest.raises(RequestTimeout):
        await read_bounded(pieces(b"ab", forever=True), 3, "too large")


async def test_a_body_whose_next_piece_stays_away_is_408_long_before_its_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "PIECE_SECONDS", 0.05)
    async with asyncio.timeout(5):
        with pytest.raises(RequestTimeout):
            await read_bounded(pieces(b"ab", forever=True), 3, "too large")


async def test_a_body_that_drips_is_408_when_its_whole_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(body, "PIECE_SECONDS", 0.2)

    async def drops() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async with asyncio.timeout(5):
        with pytest.raises(RequestTimeout):
            await read_bounded(drops(), 1_000_000, "too large")


async def test_slow_bodies_are_ended_and_others_are_not(is_quick: None) -> None:
    watch = SlowBodies()
    ended: list[str] = []

    async def receive(name: str, seconds: float) -> None:
        task = watch.begin()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            assert watch.is_expired(task)
            assert task.cancelling() == 0
            ended.append(name)
        finally:
            watch.end(task)

    async with asyncio.timeout(10):
        await asyncio.gather(receive("slow", 60), receive("quick", 0), receive("slow too", 60))
        # It goes on looking after it had nothing to look at.
        await asyncio.sleep(0.05)
        await receive("later", 60)
    assert ended == ["slow", "slow too", "later"]


async def test_a_task_that_somebody_else_cancels_is_cancelled(is_quick: None) -> None:
    watch = SlowBodies()
    task = asyncio.current_task()
    assert task is not None
    assert not watch.is_expired(task)


async def _start_of_answer(app: Any, method: str, path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """The beginning of the answer to a request whose body begins and goes no further."""
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": b'{"', "more_body": True}]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"keywright.test"), *headers], "client": ("127.0.0.1", 1),
        "server": ("keywright.test", 80),
        "scheme": "http", "root_path": "", "http_version": "1.1", "state": {},
    }  # fmt: skip

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(30):
        await app(scope, receive, send)
    return dict(sent[0])


BEARER = (b"authorization", f"Bearer {ROOT_KEY}".encode())
JSON = (b"content-type", b"application/json")
ADDRESSES = {
    "validate": ("POST", "/v1/validate/my-project-production", JSON),
    "management": ("POST", "/v1/accounts/my-account/key-buckets", JSON, BEARER),
    "acknowledgements": ("POST", "/v1/feed/acknowledgements", JSON, BEARER),
    "leases": ("POST", "/v1/feed/leases", BEARER),
    "shares": ("POST", "/v1/feed/shares", JSON, BEARER),
    "form": ("POST", "/admin/sign-in", (b"content-type", FORM.encode())),
}


@pytest.mark.parametrize("request_", ADDRESSES.values(), ids=ADDRESSES)
async def test_a_slow_body_is_408_at_every_address_that_takes_one(
    embedded: Service, is_quick: None, request_: tuple[Any, ...]
) -> None:
    start = await _start_of_answer(embedded.app, *request_)
    assert start["status"] == 408


async def test_a_body_that_never_begins_is_408_at_the_edge(is_quick: None) -> None:
    nothing: Any = None
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/validate/b-name", "headers": [(b"content-length", b"9")]}

    class Validator:
        validate = nothing

        def knows_bucket(self, bucket: str) -> bool:
            return False

    validator: Any = Validator()
    async with asyncio.timeout(10):
        await ValidateApi(validator)(scope, receive, send)
    assert sent[0]["status"] == 408


def test_a_real_service_ends_a_body_that_stays_away(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    # Read by each process of the service as it starts.
    (tmp_path / "site" / "sitecustomize.py").write_text("from keywright.http import body\nbody.PIECE_SECONDS = 0.5\n")
    with ServeProcess(tmp_path / "data", PYTHONPATH=str(tmp_path / "site")) as serve:
        serve.wait_until_ready()
        for first in (b"", b'{"key":'):
            with socket.create_connection(("127.0.0.1", serve.port), timeout=60) as connection:
                connection.sendall(
                    b"POST /v1/validate/my-project-production HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 50\r\n\r\n" + first
                )
                began = time.monotonic()
                assert connection.recv(65536).startswith(b"HTTP/1.1 408"), serve.output()
                assert time.monotonic() - began >= 0.4
        assert "Traceback" not in serve.output()
        assert serve.verdict("zpka_nobody-has-this") == "UNKNOWN"
