"""The edge on its own: answers from its disk from the first moment, and starts only with what it can't do without."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.asgi import call
from edge.world import PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.powers import encode_powers
from keywright.edge import start, worker
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.feed import OtherPepper
from keywright.runtime import server
from keywright.runtime.server import StartError
from keywright.runtime.settings import EdgeSettings, SettingsError
from support.ports import free_port

PEPPER = base64.b64encode(b"pepper of the tests, 32 bytes ok").decode()
RECORDS = [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1)]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EdgeSettings:
    for name in [name for name in os.environ if name.startswith("KEYWRIGHT_")]:
        monkeypatch.delenv(name)
    # Undone at the end, whatever `start.run` puts there.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.update(
        KEYWRIGHT_EDGE_TOKEN="token-of-the-edge",
        KEYWRIGHT_PEPPER=PEPPER,
        KEYWRIGHT_PORT=str(free_port()),
        KEYWRIGHT_DATA_DIR=str(tmp_path),
        KEYWRIGHT_ORIGIN_URL="http://127.0.0.1:1/",
    )
    return EdgeSettings.load()


def fill(settings: EdgeSettings) -> None:
    replica = Replica.open(settings.replica_dir, PEPPER_CHECK)
    replica.load("dply_1/everything", PEPPER_CHECK, at(3), RECORDS)
    replica.close()


async def test_it_answers_from_its_disk_while_there_is_no_origin(settings: EdgeSettings) -> None:
    fill(settings)
    app = worker.create_app()
    await app.start()
    validated = await call(app, "POST", "/v1/validate/my-bucket", body=b'{"key":"zpka_secret-1"}')
    assert validated.json()["code"] == "VALID"
    ready = await call(app, "GET", "/readyz")
    assert (ready.status, ready.json()["synced"], ready.json()["revision"]) == (200, False, 3)
    assert (await call(app, "GET", "/nothing")).status == 404
    await app.stop()


VALIDATE, FORWARD_AUTH = "/v1/validate/my-bucket", "/v1/forward-auth/my-bucket"
ASK = b'{"key":"zpka_secret-1"}'


async def test_a_token_is_demanded_at_both_endpoints_where_the_settings_say_so(settings: EdgeSettings) -> None:
    fill(settings)
    os.environ["KEYWRIGHT_VALIDATION_TOKEN_REQUIRED"] = "true"
    app = worker.create_app()
    await app.start()
    assert (await call(app, "POST", VALIDATE, body=ASK)).status == 403
    answer = await call(app, "GET", FORWARD_AUTH, headers=[(b"authorization", b"Bearer zpka_secret-1")])
    assert answer.status == 403
    await app.stop()


async def test_the_settings_of_the_endpoints_are_those_of_the_edge(settings: EdgeSettings) -> None:
    fill(settings)
    os.environ.update(
        KEYWRIGHT_FORWARD_AUTH_HEADER="X-Key",
        KEYWRIGHT_FORWARD_AUTH_SCHEME="Token",
        KEYWRIGHT_IDENTITY_HEADERS="X-Consumer-Name=X-User-Id",
        KEYWRIGHT_IDENTITY_TOKEN_SECONDS="60",
        KEYWRIGHT_MIN_REVISION_TIMEOUT_SECONDS="1.5",
    )
    app = worker.create_app()
    await app.start()
    answer = await call(app, "GET", FORWARD_AUTH, headers=[(b"x-key", b"Token zpka_secret-1")])
    assert (answer.status, answer.headers["x-user-id"]) == (200, "my-consumer")
    assert answer.headers["x-consumer-token"].count(".") == 2
    began = time.monotonic()
    later = [(b"min-revision", b"4")]
    for asked in (call(app, "POST", VALIDATE, body=ASK, headers=later), call(app, "GET", FORWARD_AUTH, headers=later)):
        assert (await asked).status == 503
        assert time.monotonic() - began >= 1.5
        began = time.monotonic()
    await app.stop()


async def test_its_proxies_are_believed_about_their_clients(settings: EdgeSettings) -> None:
    limited = replace(key("zpka_secret-2", 1, 1), powers=encode_powers(allowed_ips=["192.0.2.7"]))
    replica = Replica.open(settings.replica_dir, PEPPER_CHECK)
    powered = replace(bucket(1, "my-bucket"), features=("allowedIps",))
    replica.load("dply_1/everything", PEPPER_CHECK, at(3), [powered, consumer(1, 1), limited])
    replica.close()
    shown = [(b"authorization", b"Bearer zpka_secret-2"), (b"x-real-ip", b"192.0.2.7")]
    for trusted, statuses in (("10.1.0.0/16", (200, 403)), ("", (403, 403))):
        os.environ.update(
            KEYWRIGHT_TRUSTED_PROXIES=trusted, KEYWRIGHT_CLIENT_ADDRESS_HEADER="X-Real-IP" if trusted else ""
        )
        app = worker.create_app()
        await app.start()
        for peer, status in zip(("10.1.2.3", "192.0.2.7"), statuses, strict=True):

            async def connected(scope: Any, receive: Any, send: Any, app: Any = app, peer: str = peer) -> None:
                await app({**scope, "client": (peer, 50000)}, receive, send)

            assert (await call(connected, "GET", FORWARD_AUTH, headers=shown)).status == status
        ready = await call(app, "GET", "/readyz")
        assert any("a client's address is not known" in warning for warning in ready.json()["warnings"])
        await app.stop()


async def test_it_lives_and_ends_with_its_server(settings: EdgeSettings) -> None:
    app = worker.create_app()
    asked, told = ["lifespan.startup", "lifespan.shutdown"], []

    async def receive() -> Any:
        return {"type": asked.pop(0)}

    async def send(message: Any) -> None:
        told.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_beside_http_it_serves_grpc_and_looks_for_its_haproxy(
    settings: EdgeSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(settings)
    port = free_port()
    os.environ.update(
        KEYWRIGHT_GRPC_PORT=str(port),
        KEYWRIGHT_HAPROXY_SOCKET=str(tmp_path / "none.sock"),
        KEYWRIGHT_IDENTITY_TOKEN_SECONDS="60",
    )
    app = worker.create_app()
    await app.start()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    assert (await call(app, "GET", "/.well-known/jwks.json")).json()["keys"][0]["crv"] == "P-256"
    told = ""
    async with asyncio.timeout(30):
        while "can't keep HAProxy" not in told:
            told += capfd.readouterr().err
            await asyncio.sleep(0.01)
    await app.stop()


def test_it_starts_though_the_origin_is_away(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(server, "run", lambda *arguments: started.append(arguments))
    start.run(settings)
    assert started == [("keywright.edge.worker:create_app", settings.host, settings.port, 1, None)]
    assert "following http://127.0.0.1:1\n" in capsys.readouterr().out


@pytest.mark.parametrize("beside", ["an-origin", "answers"])
def test_a_file_that_is_refused_does_not_stop_an_edge_that_has_something_else(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], beside: str
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(server, "run", lambda *arguments: started.append(arguments))
    os.environ["KEYWRIGHT_SNAPSHOT_FILE"] = "/none"
    if beside == "answers":
        os.environ["KEYWRIGHT_ORIGIN_URL"] = ""
        fill(settings)
    start.run(EdgeSettings.load())
    assert (len(started), "the snapshot file is refused: /none can't be read" in "".join(capfd.readouterr())) == (
        1,
        True,
    )


def test_a_file_is_left_alone_while_another_process_follows_into_the_replica(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "run", lambda *_: None)
    os.environ["KEYWRIGHT_SNAPSHOT_FILE"] = "/none"
    settings.replica_dir.mkdir()
    with (settings.replica_dir / "following.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start.run(EdgeSettings.load())
    assert "another process follows" in "".join(capfd.readouterr())


async def test_an_edge_without_an_origin_says_so_and_is_never_in_step(settings: EdgeSettings) -> None:
    os.environ.update(KEYWRIGHT_ORIGIN_URL="", KEYWRIGHT_SNAPSHOT_FILE="/none")
    fill(settings)
    app = worker.create_app()
    await app.start()
    validated = await call(app, "POST", "/v1/validate/my-bucket", body=b'{"key":"zpka_secret-1"}')
    assert validated.json()["code"] == "VALID"
    while "reason" not in (ready := (await call(app, "GET", "/readyz")).json()) or "origin" not in ready["reason"]:
        await asyncio.sleep(0.01)
    assert (ready["ready"], ready["synced"], ready["revision"]) == (True, False, 3)
    await app.stop()


@pytest.mark.parametrize("has_answers", [False, True], ids=["a-new-edge", "an-edge-with-answers"])
def test_another_pepper_stops_a_new_edge_and_not_one_that_has_answers(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch, has_answers: bool
) -> None:
    async def other(_: object) -> str:
        raise OtherPepper("the pepper of this edge is not the origin's")

    started: list[Any] = []
    monkeypatch.setattr(server, "run", lambda *arguments: started.append(arguments))
    monkeypatch.setattr("keywright.edge.sync.http_feed.HttpFeed.deployment_id", other)
    if has_answers:
        fill(settings)
        start.run(settings)
    else:
        with pytest.raises(StartError, match="pepper"):
            start.run(settings)
    assert bool(started) is has_answers


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ({"KEYWRIGHT_PEPPER": ""}, StartError, "pepper of its origin"),
        ({"KEYWRIGHT_PEPPER": "AAAA"}, StartError, "32 are needed"),
        ({"KEYWRIGHT_DATA_DIR": "/proc/none"}, StartError, "can't use the data directory"),
        ({"KEYWRIGHT_EDGE_TOKEN": ""}, SettingsError, "feed: true"),
        ({"KEYWRIGHT_ORIGIN_URL": ""}, SettingsError, "--origin.*--snapshot"),
        (
            {"KEYWRIGHT_ORIGIN_URL": "", "KEYWRIGHT_SNAPSHOT_FILE": "/none"},
            StartError,
            "/none can't be read: no such file",
        ),
        ({"KEYWRIGHT_ORIGIN_URL": "nats://hub"}, SettingsError, "--origin"),
        ({"KEYWRIGHT_ORIGIN_URL": "https://user:word@hub"}, SettingsError, "--origin"),
        ({"KEYWRIGHT_EDGE_NAME": "with space"}, SettingsError, "KEYWRIGHT_EDGE_NAME"),
        (
            {"KEYWRIGHT_IDENTITY_TOKEN_SECONDS": "60", "KEYWRIGHT_IDENTITY_KEY_FILE": "/none.pem"},
            StartError,
            "/none.pem is missing",
        ),
        ({"KEYWRIGHT_FORWARD_AUTH_HEADER": "X Key"}, SettingsError, "KEYWRIGHT_FORWARD_AUTH_HEADER.*hyphens"),
        ({"KEYWRIGHT_IDENTITY_HEADERS": "X-Key-Id=a b"}, SettingsError, "KEYWRIGHT_IDENTITY_HEADERS.*hyphens"),
        (
            {"KEYWRIGHT_FORWARD_AUTH_HEADER": "x-key", "KEYWRIGHT_IDENTITY_HEADERS": "X-Key-Id=X-Key"},
            SettingsError,
            "KEYWRIGHT_IDENTITY_HEADERS can't use 'x-key'",
        ),
        ({"KEYWRIGHT_GRPC_PORT": "65536"}, SettingsError, "KEYWRIGHT_GRPC_PORT"),
        ({"KEYWRIGHT_HAPROXY_LEASE_SECONDS": "1"}, SettingsError, "KEYWRIGHT_HAPROXY_LEASE_SECONDS"),
    ],
)
def test_what_keeps_an_edge_from_starting_is_named(
    settings: EdgeSettings, variables: dict[str, str], error: type[Exception], message: str
) -> None:
    os.environ.update(variables)
    with pytest.raises(error, match=message):
        start.run(EdgeSettings.load())
