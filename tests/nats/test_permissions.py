"""What each credential of deploy/nats may do at the hub: every verb of JetStream is tried, and every subject there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats as client
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from keywright.nats.subjects import Subjects
from keywright.protocol import feed_formats
from support import nats as servers
from support.nats import PASSWORDS, NatsServer

FORMATS = [Subjects("keywright", feed_format) for feed_format in feed_formats.FORMATS]
SUBJECTS = {
    **{one.changes_stream: [one.changes] for one in FORMATS},
    **{one.snapshots_stream: [one.snapshot_pages, one.snapshot_ends] for one in FORMATS},
}
STREAMS = tuple(SUBJECTS)
WRITTEN = tuple(subject for one in FORMATS for subject in (one.changes, one.snapshot_pages, one.heartbeats))
"""Subjects that only the origin may write to."""

HARMFUL = (
    "STREAM.CREATE.{stream}", "STREAM.UPDATE.{stream}", "STREAM.DELETE.{stream}", "STREAM.PURGE.{stream}",
    "STREAM.MSG.DELETE.{stream}", "STREAM.RESTORE.{stream}", "STREAM.SNAPSHOT.{stream}",
    "STREAM.LEADER.STEPDOWN.{stream}", "STREAM.PEER.REMOVE.{stream}", "STREAM.CREATE.other", "STREAM.DELETE.other",
    "CONSUMER.DELETE.{stream}.reader", "CONSUMER.DURABLE.CREATE.{stream}.mine", "CONSUMER.PAUSE.{stream}.reader",
    "CONSUMER.LEADER.STEPDOWN.{stream}.reader", "CONSUMER.UNPIN.{stream}.reader", "CONSUMER.RESET.{stream}.reader",
    "META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT.PURGE.KEYWRIGHT",
    "ACCOUNT.STREAM.MOVE.KEYWRIGHT.{stream}", "ACCOUNT.STREAM.MOVE.CANCEL.KEYWRIGHT.{stream}",
)  # fmt: skip
BODY = {"name": "{stream}", "subjects": ["mine"], "seq": 1, "no_erase": False}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with servers.hub(tmp_path_factory.mktemp("hub") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def region(hub: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A region that was taken over: its server lets anybody do anything, and comes in by the leaf's password."""
    text = (servers.DEPLOY / "leaf.conf").read_text()
    text = text[: text.index("# What an edge may do")]
    text = "\n".join(line for line in text.splitlines() if "deny_exports" not in line)
    text += "\naccounts { KEYWRIGHT { jetstream: enabled, users: [{ user: intruder, password: intruder }] } }\n"
    url = f"nats-leaf://leaf:{PASSWORDS['LEAF_PASSWORD']}@127.0.0.1:{hub.leaf_port}"
    variables = {**PASSWORDS, "REGION": "eu", "HUB_URL": url}
    with NatsServer(tmp_path_factory.mktemp("region") / "eu", text, variables) as running:
        yield running


@pytest.fixture
async def relay(hub: NatsServer) -> AsyncIterator[Client]:
    """The origin, with something in each stream and a reader of it."""
    connection = await client.connect(hub.url, user="relay", password=PASSWORDS["RELAY_PASSWORD"])
    js = connection.jetstream(domain="hub")
    for stream in STREAMS:
        await js.add_stream(name=stream, subjects=SUBJECTS[stream])
        await js.add_consumer(stream, name="reader", durable_name="reader")
        await js.publish(SUBJECTS[stream][0], b"a message")
    yield connection
    for stream in STREAMS:
        await js.delete_stream(stream)
    await connection.close()


async def state_of(relay: Client) -> object:
    js = relay.jetstream(domain="hub")
    infos = [await js.stream_info(stream) for stream in STREAMS]
    readers = [[one.name for one in await js.consumers_info(stream)] for stream in STREAMS]
    return [(one.config, one.state.messages, one.state.last_seq, one.cluster) for one in infos], readers


async def attack(connection: Client, api: str) -> dict[str, str]:
    """Every verb of JetStream that changes something, on each stream: those that were answered, with their answers."""
    answered = {}
    for verb in HARMFUL:
        for stream in STREAMS if "{stream}" in verb else STREAMS[:1]:
            subject = f"{api}.{verb.format(stream=stream)}"
            body = json.dumps(BODY).replace("{stream}", stream).encode()
            try:
                answered[subject] = (await connection.request(subject, body, timeout=0.05)).data.decode()
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                continue
    return answered


async def heartbeats_at(connection: Client) -> list[Subscription]:
    return [await connection.subscribe(one.heartbeats) for one in FORMATS]


async def write(connection: Client) -> None:
    for subject in WRITTEN:
        await connection.publish(subject, b"forged")
    await connection.flush()


async def quiet(_: Exception) -> None:
    """Refusals are told to the connection; what came of the attempts is looked at."""


@pytest.mark.parametrize("api", ["$JS.API", "$JS.hub.API"])
async def test_an_edge_changes_nothing_at_the_hub(hub: NatsServer, relay: Client, api: str) -> None:
    before, heard = await state_of(relay), await heartbeats_at(relay)
    edge = await client.connect(hub.url, user="edge", password=PASSWORDS["EDGE_PASSWORD"], error_cb=quiet)
    try:
        assert await attack(edge, api) == {}
        await write(edge)
        assert (await state_of(relay), [one.pending_msgs for one in heard]) == (before, [0] * len(FORMATS))
    finally:
        await edge.close()


@pytest.mark.parametrize("api", ["$JS.API", "$JS.hub.API"])
async def test_a_region_that_was_taken_over_changes_nothing_at_the_hub(
    region: NatsServer, relay: Client, api: str
) -> None:
    before, heard = await state_of(relay), await heartbeats_at(relay)
    inside = await client.connect(region.url, user="intruder", password="intruder", error_cb=quiet)
    try:
        # `$JS.API` is the region's own; the hub's is reached by its domain.
        answered = await attack(inside, api)
        assert api == "$JS.API" or answered == {}
        await write(inside)
        assert (await state_of(relay), [one.pending_msgs for one in heard]) == (before, [0] * len(FORMATS))
        # And yet what an edge needs gets through.
        for stream in STREAMS:
            info = await inside.request(f"$JS.hub.API.STREAM.INFO.{stream}", b"", timeout=2)
            assert json.loads(info.data)["state"]["messages"] == 1
    finally:
        await inside.close()


async def told_at_connect(server: NatsServer, user: str, password: str) -> str:
    """What a server says to an ordinary client with these credentials."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        connect = {"user": user, "pass": password, "verbose": False, "pedantic": False, "lang": "test", "version": "1"}
        await reader.readline()
        writer.write(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
        return (await reader.readline()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("user", ["leaf", "relay", "edge"])
async def test_each_name_comes_in_the_one_way_that_it_is_for(hub: NatsServer, user: str, tmp_path: Path) -> None:
    password = PASSWORDS[f"{user.upper()}_PASSWORD"]
    if user == "leaf":
        assert "Authorization Violation" in await told_at_connect(hub, user, password)
        return
    assert "Authorization Violation" not in await told_at_connect(hub, user, password)
    text = (servers.DEPLOY / "leaf.conf").read_text()
    variables = {
        **PASSWORDS, "REGION": "xx", "HUB_URL": f"nats-leaf://{user}:{password}@127.0.0.1:{hub.leaf_port}"
    }  # fmt: skip
    with NatsServer(tmp_path / "xx", text, variables) as server:
        inside = await client.connect(server.url, user="edge", password=PASSWORDS["EDGE_PASSWORD"], error_cb=quiet)
        with pytest.raises(nats.errors.Error):
            await inside.request("$JS.hub.API.STREAM.INFO.keywright-changes", b"", timeout=0.5)
        await inside.close()
