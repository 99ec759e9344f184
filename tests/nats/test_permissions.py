"""What each credential of deploy/nats may do: each verb of JetStream, on each subject, with each place for the answer.

Whoever asks a server says where the answer goes (a reply, a deliver_subject), and no permission is about that. So what
is looked at is not only what is refused but what comes of it: nothing in the streams of the origin, nothing in another
region's mirrors, and nothing that another edge or region hears.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats as client
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from keywright.domain.keyformat import Secret
from keywright.nats.connection import BrokerUnavailable, StreamMissing, connect
from keywright.nats.streams import Streams
from keywright.nats.subjects import Subjects
from keywright.origin.feed.nats_mirrors import Mirrors
from keywright.protocol import feed_formats
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support import nats as servers
from support.nats import PASSWORDS, NatsServer
from support.waiting import until

FORMATS = [Subjects("keywright", feed_format) for feed_format in feed_formats.FORMATS]
STREAMS = {
    **{one.changes_stream: [one.changes] for one in FORMATS},
    **{one.snapshots_stream: [one.snapshot_pages, one.snapshot_ends] for one in FORMATS},
}
HEARD = {subject for one in FORMATS for subject in (one.changes, one.heartbeats)}
WRITTEN = (*HEARD, *(subject for one in FORMATS for subject in (one.snapshot_pages, one.snapshot_ends)))
"""Subjects that only the origin may write to."""
ASKED = ("keywright.reports", "keywright.shares", "keywright.leases", "keywright.usage.fra-1")
"""Where edges report, ask for their shares of global rate limits and for quotas, and deliver usage: the origin answers.
"""

VERBS = (
    "INFO", "STREAM.LIST", "STREAM.NAMES", "STREAM.CREATE.{stream}", "STREAM.CREATE.other", "STREAM.UPDATE.{stream}",
    "STREAM.INFO.{stream}", "STREAM.DELETE.{stream}", "STREAM.PURGE.{stream}", "STREAM.MSG.GET.{stream}",
    "STREAM.MSG.DELETE.{stream}", "STREAM.SNAPSHOT.{stream}", "STREAM.RESTORE.{stream}",
    "STREAM.PEER.REMOVE.{stream}", "STREAM.PEER.EVACUATE.{stream}", "STREAM.LEADER.STEPDOWN.{stream}",
    "DIRECT.GET.{stream}", "DIRECT.GET.{stream}.keywright.changes", "CONSUMER.CREATE.{stream}",
    "CONSUMER.CREATE.{stream}.mine", "CONSUMER.CREATE.{stream}.mine.keywright.changes",
    "CONSUMER.DURABLE.CREATE.{stream}.mine", "CONSUMER.NAMES.{stream}", "CONSUMER.LIST.{stream}",
    "CONSUMER.INFO.{stream}.reader", "CONSUMER.DELETE.{stream}.reader", "CONSUMER.PAUSE.{stream}.reader",
    "CONSUMER.UNPIN.{stream}.reader", "CONSUMER.RESET.{stream}.reader", "CONSUMER.LEADER.STEPDOWN.{stream}.reader",
    "CONSUMER.PEER.REMOVE.{stream}.reader", "CONSUMER.PEER.EVACUATE.{stream}.reader",
    "CONSUMER.MSG.NEXT.{stream}.reader", "META.LEADER.STEPDOWN", "META.RESCUE", "SERVER.REMOVE", "SERVER.EVACUATE",
    "ACCOUNT.PURGE.KEYWRIGHT", "ACCOUNT.STREAM.MOVE.KEYWRIGHT.{stream}",
    "ACCOUNT.STREAM.CANCEL_MOVE.KEYWRIGHT.{stream}",
)  # fmt: skip
"""All that nats-server 2.15 knows under $JS.API."""

READS = {"STREAM.INFO.{stream}", "STREAM.MSG.GET.{stream}"}
FILLS_MIRRORS = {"CONSUMER.CREATE.{stream}"}
ALLOWED = {
    "an edge at the hub": {"$JS.hub.API": READS},
    "an edge in a region": {"$JS.hub.API": READS, "$JS.region.API": READS},
    "a region that was taken over": {"$JS.hub.API": READS | FILLS_MIRRORS},
}
"""What is answered to whom; docs/how-to/run-edges-in-many-regions.md has this table, too."""
APIS = ("$JS.API", "$JS.hub.API", "$JS.keywright.API", "$JS.readers.API", "$JS.region.API", "$JS.us.API", "$JS.eu.API")
PLACES = (
    *WRITTEN, *ASKED, "keywright.mirror.us.x", "keywright.mirror.readers.x", "keywright.mirror.eu.x",
    "$JS.API.STREAM.DELETE.keywright-changes", "$JS.API.STREAM.PURGE.keywright-snapshots",
    "$JS.hub.API.STREAM.DELETE.keywright-changes", "$JS.readers.API.STREAM.DELETE.keywright-changes",
    "$JS.us.API.STREAM.DELETE.keywright-changes", "$JS.FC.keywright-changes.reader.x",
    "$JS.ACK.keywright-changes.reader.1.1.1.1.1", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ",
)  # fmt: skip
"""Where something may be published, an answer may be sent to, and a consumer may deliver."""
SETTLE_SECONDS = 0.4
INTRUDER = {"user": "intruder", "password": "intruder"}


@dataclass
class Place:
    """Where an attacker is, how it comes in, and which APIs are its own to break."""

    server: NatsServer
    credential: dict[str, str]
    own: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with servers.hub(tmp_path_factory.mktemp("hub") / "hub", "eu", "us", edges=2) as running:
        yield running


@pytest.fixture(scope="module")
def us(hub: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with servers.leaf(tmp_path_factory.mktemp("us") / "us", "us", hub.leaf_port, edges=2) as running:
        yield running


@pytest.fixture(scope="module")
def eu(hub: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A region that was taken over: its server lets anybody do anything, and comes in by the leaf's password."""
    text = (servers.DEPLOY / "leaf.conf").read_text()
    text = text[: text.index("# What an edge is given")]
    text += "\naccounts { KEYWRIGHT { jetstream: enabled, users: [{ user: intruder, password: intruder }] } }\n"
    url = f"nats-leaf://leaf:{PASSWORDS['LEAF_PASSWORD']}@127.0.0.1:{hub.leaf_port}"
    with NatsServer(tmp_path_factory.mktemp("eu") / "eu", text, {**PASSWORDS, "HUB_URL": url}) as running:
        yield running


def edge(n: int = 1) -> dict[str, str]:
    return {"user": "edge" if n == 1 else f"edge-{n}", "password": PASSWORDS["EDGE_PASSWORD"]}


@pytest.fixture
def attackers(hub: NatsServer, us: NatsServer, eu: NatsServer) -> dict[str, Place]:
    return {
        "an edge at the hub": Place(hub, edge()),
        "an edge in a region": Place(us, edge()),
        "a region that was taken over": Place(eu, INTRUDER, own=("$JS.API", "$JS.eu.API")),
    }


@dataclass
class World:
    """The origin, with something in both streams and in all mirrors; and two edges that listen."""

    relay: Client
    streams: dict[str, Streams]
    others: dict[str, Client]
    heard: list[tuple[str, str, bytes]]

    async def state(self) -> list[object]:
        found: list[object] = []
        for place in self.streams:
            for stream in STREAMS:
                answer = await self.relay.request(f"$JS.{place}.API.STREAM.INFO.{stream}", b"", timeout=2)
                told = json.loads(answer.data)
                state = {name: told["state"][name] for name in ("messages", "first_seq", "last_seq")}
                # The copies' consumers are each region's own affair.
                consumers = told["state"]["consumer_count"] if place == "hub" else None
                found.append((place, stream, told["config"], told["created"], state, consumers))
        return found


@pytest.fixture
async def world(hub: NatsServer, us: NatsServer, eu: NatsServer) -> AsyncIterator[World]:
    password = Secret(PASSWORDS["RELAY_PASSWORD"])
    options = NatsOptions((hub.url,), user="relay", password=password, domain="hub", mirrors=("readers", "us"))
    connection = await connect(options, "test", Clock())
    relay = connection.client
    streams = {name: Streams(connection, name) for name in ("hub", "readers", "us")}
    heard: list[tuple[str, str, bytes]] = []
    others: dict[str, Client] = {}
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        await fill([Mirrors(connection, one, streams["hub"], {}) for one in FORMATS], streams, relay)
        for who, server in (("at the hub", hub), ("in a region", us)):
            other = others[who] = await client.connect(server.url, **edge(2), error_cb=quiet)
            stack.push_async_callback(other.close)
            for subject in ("_INBOX.>", *HEARD):
                await other.subscribe(subject, cb=noting(heard, f"the other edge {who}"))
            await other.flush()
        for subject in ("keywright.heartbeat", *ASKED):
            await relay.subscribe(subject, cb=noting(heard, "the origin"))
        await relay.flush()
        yield World(relay, streams, others, heard)
        for place in reversed(streams.values()):
            for stream in STREAMS:
                await place.delete(stream)


async def fill(mirrors: list[Mirrors], streams: dict[str, Streams], relay: Client) -> None:
    for stream, subjects in STREAMS.items():
        await streams["hub"].create(stream, subjects, 1)
        for subject in subjects:
            await relay.request(subject, b"old", timeout=2)

    async def are_filled() -> bool:
        with contextlib.suppress(BrokerUnavailable, StreamMissing):
            for one in mirrors:
                await one.sync()
            return {(await one.bounds(stream)).last for one in streams.values() for stream in STREAMS} == {1, 2}
        return False

    await until(are_filled)


def noting(heard: list[tuple[str, str, bytes]], who: str) -> Any:
    async def note(message: Msg) -> None:
        heard.append((who, message.subject, message.data))

    return note


async def quiet(_: Exception) -> None:
    """Refusals are told to the connection; what came of the attempts is looked at."""


async def ask_everything(attacker: Client, api: str) -> set[str]:
    """Every verb on each stream; those that were answered."""
    asked: dict[str, str] = {}
    answered: set[str] = set()

    async def note(message: Msg) -> None:
        # That nobody is there to answer is no answer.
        if (message.headers or {}).get("Status") != "503":
            answered.add(asked[message.subject])

    inbox = attacker.new_inbox()
    await attacker.subscribe(f"{inbox}.*", cb=note)
    for number, (verb, stream) in enumerate((verb, stream) for verb in VERBS for stream in STREAMS):
        asked[f"{inbox}.{number}"] = verb
        subject = f"{api}.{verb.format(stream=stream)}"
        await attacker.publish(subject, body(stream), reply=f"{inbox}.{number}")
    await settle(attacker)
    return answered


def body(stream: str, deliver: str | None = None) -> bytes:
    """What every verb finds what it needs in."""
    config = {"deliver_policy": "all", "ack_policy": "none", "inactive_threshold": 1_000_000_000}
    if deliver is not None:
        config["deliver_subject"] = deliver
    asked = {"name": stream, "stream_name": stream, "subjects": ["mine"], "seq": 1, "batch": 1, "config": config}
    return json.dumps(asked).encode()


async def settle(attacker: Client) -> None:
    """What was asked for has been done, or refused."""
    await attacker.flush()
    await asyncio.sleep(SETTLE_SECONDS)


@pytest.mark.parametrize("who", ALLOWED)
async def test_what_is_answered_is_what_the_table_allows_and_changes_nothing(
    attackers: dict[str, Place], world: World, who: str
) -> None:
    place, before = attackers[who], await world.state()
    attacker = await client.connect(place.server.url, **place.credential, error_cb=quiet)
    try:
        answers = {api: await ask_everything(attacker, api) for api in APIS if api not in place.own}
        assert {api: verbs for api, verbs in answers.items() if verbs} == ALLOWED[who]
        assert await world.state() == before
        assert world.heard == []
    finally:
        await attacker.close()


@pytest.mark.parametrize("who", ALLOWED)
async def test_no_answer_and_no_delivery_gets_anywhere_but_to_who_asked(
    attackers: dict[str, Place], world: World, who: str
) -> None:
    place, before = attackers[who], await world.state()
    inboxes = [other.new_inbox() for other in world.others.values()]
    for other, inbox in zip(world.others.values(), inboxes, strict=True):
        await other.subscribe(inbox, cb=noting(world.heard, "an inbox of another"))
        await other.flush()
    attacker = await client.connect(place.server.url, **place.credential, error_cb=quiet)
    try:
        for target in (*PLACES, *inboxes):
            await attacker.publish(target, b"forged")
            for subject in ASKED:
                await attacker.publish(subject, b"a report", reply=target)
            for stream in STREAMS:
                for api in ("$JS.hub.API", "$JS.region.API", "$JS.readers.API", "$JS.us.API"):
                    for verb in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"):
                        await attacker.publish(f"{api}.{verb}.{stream}", b'{"seq":1}', reply=target)
                    for name in ("", ".mine", ".mine.keywright.changes"):
                        create = f"{api}.CONSUMER.CREATE.{stream}{name}"
                        await attacker.publish(create, body(stream, deliver=target), reply=target)
            await attacker.flush()
        await settle(attacker)
        assert await world.state() == before
        # Anything may be reported; the origin judges that by its MAC, and nobody hears of anything else.
        assert {(who, subject) for who, subject, _ in world.heard} == {("the origin", subject) for subject in ASKED}
    finally:
        await attacker.close()


@pytest.mark.parametrize("who", ALLOWED)
async def test_nobody_hears_what_is_for_another(attackers: dict[str, Place], world: World, who: str) -> None:
    place = attackers[who]
    heard: list[tuple[str, str, bytes]] = []
    attacker = await client.connect(place.server.url, **place.credential, error_cb=quiet)
    try:
        # More than one at once would hear everything twice.
        for subject in (">", "_INBOX.>", "$JS.>", "$SYS.>", "_R_.>", "$JSC.>", "keywright.>"):
            await attacker.subscribe(subject, cb=noting(heard, subject))
        await settle(attacker)
        heard.clear()
        for other in world.others.values():
            answer = await other.request("$JS.hub.API.STREAM.INFO.keywright-changes", b"", timeout=2)
            assert json.loads(answer.data)["state"]["messages"] == 1
            for subject in ASKED:
                await other.publish(subject, b"a report of another")
            await other.flush()
        await world.relay.request("keywright.changes", b"new", timeout=2)
        await world.relay.publish("keywright.heartbeat", b"a heartbeat")
        await world.relay.flush()
        await settle(attacker)
        subjects = {subject for _, subject, _ in heard if not subject.startswith("$JS.eu.")}
        mine = {subject for subject in subjects if subject.startswith("keywright.mirror.eu.")}
        assert subjects - mine <= HEARD
        for subject in ASKED:
            assert ("the origin", subject, b"a report of another") in world.heard
    finally:
        await attacker.close()


async def test_the_verbs_are_all_that_the_server_knows() -> None:
    binary = Path(servers.COMMAND).resolve().read_bytes()
    found = {name.decode() for name in re.findall(rb"\$JS\.API\.((?:[A-Z]+\.)*[A-Z]+)\.[*]", binary)}
    assert found <= {verb.partition(".{")[0].removesuffix(".KEYWRIGHT") for verb in VERBS}


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
    variables = {**PASSWORDS, "HUB_URL": f"nats-leaf://{user}:{password}@127.0.0.1:{hub.leaf_port}"}
    with NatsServer(tmp_path / "xx", text, variables) as server:
        inside = await client.connect(server.url, user="edge", password=PASSWORDS["EDGE_PASSWORD"], error_cb=quiet)
        with pytest.raises(nats.errors.Error):
            await inside.request("$JS.hub.API.STREAM.INFO.keywright-changes", b"", timeout=0.5)
        await inside.close()
