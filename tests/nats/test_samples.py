"""What a released version put at a broker, or asked and was told there, is understood to the letter; what no version
that we know has put there is refused, and why is said.

The samples are the messages' bytes, stored once for each format and never written anew: a change of them is a new
format, with a number and samples of its own beside these.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at
from keywright.domain.permissions import Access
from keywright.edge.origin_calls import NotTaken
from keywright.edge.replica.replica import Replica
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.nats_feed import NatsFeed, NotKnownToBeAll
from keywright.edge.sync.nats_reports import NatsReports
from keywright.nats.connection import PEPPER_HEADER, Connection, Message, connect
from keywright.nats.subjects import FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT, Subjects, frame_in
from keywright.origin.feed.acknowledgements import NatsAcknowledgements
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
    encode,
)
from keywright.protocol.frames import Frame, FrameError, FrameKind, FrameSigner
from keywright.protocol.reports import EdgeState, Report, ReportSigner
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from support.nats import streams_of
from support.sync import new_sync_loop

pytest_plugins = ["edge.conftest"]

SAMPLES = Path(__file__).parent / "samples"
SIGNER = FrameSigner(DIGESTER)
NONCE = "broker:snapshot:AbCdEfGhIjKlMnOp"
BUCKET = BucketPut(1, "bckt_" + "a" * 32, "my-bucket", "acct_1", {"acct_2": Access.VALIDATE})
CONSUMER = ConsumerPut(1, "csmr_" + "b" * 24, 1, "müller", '{"name":"línea\\n"}')
KEY = KeyPut(bytes(range(32)), 1, 1, "key_" + "c" * 24, 1_800_000_000_000)
CHANGES: list[Change] = [
    BucketPut(1, BUCKET.bucket_id, "my-bucket", "acct_1", {}, 300),
    ConsumerPut(2, "csmr_" + "d" * 24, 1, "other-consumer", "{}"),
    KeyPut(bytes(32), 1, 2, "key_" + "e" * 24, None),
    KeyDelete(KEY.digest, 1),
    ConsumerDelete(1),
    Hidden(),
    BucketPut(2, "bckt_" + "f" * 32, "a-second-bucket", None),
    BucketDelete(2),
]
SNAPSHOT = Frame("dply_1", FrameKind.PAGE, "everything", NONCE, 0, at(3), at(3), 3, 1_763_900_000_123, [])
LATER = replace(SNAPSHOT, kind=FrameKind.CHANGES, follows=at(11), cursor=at(11), head=11)
MESSAGES = {
    "page-0": replace(SNAPSHOT, changes=[BUCKET]),
    "page-1": replace(SNAPSHOT, number=1, changes=[CONSUMER, KEY]),
    "end": replace(SNAPSHOT, kind=FrameKind.END, number=2),
    "changes": replace(LATER, nonce="broker:changes", follows=at(3), changes=CHANGES),
    "heartbeat": replace(LATER, nonce="broker:heartbeat"),
}
REPORT = Report(
    "dply_1", "0123456789abcdef", "fedcba9876543210", 3, "edge-1", "eu-north", "0.1.0", EdgeState.SYNCED,
    1_800_000_000_000, at(11), 250,
)  # fmt: skip


def purpose_of(name: str) -> str:
    purposes = {"changes": FOR_CHANGES, "heartbeat": FOR_HEARTBEATS}
    return purposes.get(name, FOR_SNAPSHOT)


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def signed(text: str) -> bytes:
    """A message of any text that bears the MAC of the origin."""
    body = text.encode()
    mac = hmac.digest(SIGNER._key, b"kwf2" + body, "sha256")
    return (4 + 32 + len(body)).to_bytes(4, "big") + b"kwf2" + mac + body


def of_format_3(name: str) -> bytes:
    return sample(f"{name}-2.bin").replace(b"kwf2", b"kwf3")


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_a_stored_message_of_format_2_is_understood_and_is_what_is_written_now(name: str) -> None:
    message = Message(sample(f"{name}-2.bin"))
    assert frame_in(message, SIGNER, purpose_of(name)) == MESSAGES[name]
    assert SIGNER.encode(MESSAGES[name]) == message.data


def test_where_a_broker_keeps_what_and_under_which_header_is_as_in_the_first_release() -> None:
    subjects = Subjects(NatsOptions(("nats://127.0.0.1:4222",)).prefix)
    assert (subjects.changes_stream, subjects.changes) == ("keywright-changes", "keywright.changes")
    assert (subjects.snapshots_stream, subjects.snapshot_pages) == ("keywright-snapshots", "keywright.snapshots.page")
    assert (subjects.snapshot_ends, subjects.heartbeats) == ("keywright.snapshots.end", "keywright.heartbeat")
    assert subjects.shares == "keywright.shares"
    assert subjects.leases == "keywright.leases"
    assert (subjects.usage, subjects.usage_of("fra-1.eu")) == ("keywright.usage", "keywright.usage.fra-1_eu")
    assert (subjects.reports, PEPPER_HEADER) == ("keywright.reports", "Keywright-Pepper-Check")
    assert sample("pepper-check.txt").decode().strip() == PEPPER_CHECK


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_a_newer_format_is_refused_and_named(name: str) -> None:
    with pytest.raises(FrameError, match="not a frame of format 2: origin and edge are of different versions"):
        frame_in(Message(of_format_3(name)), SIGNER, purpose_of(name))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_never_taken_for_one_of_another_use(name: str) -> None:
    for purpose in {FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT} - {purpose_of(name)}:
        with pytest.raises(FrameError, match="for something else"):
            frame_in(Message(sample(f"{name}-2.bin")), SIGNER, purpose)


HEAD = ["dply_1", "changes", "everything", "broker:changes", 0, at(3), at(4), 4, 1_763_900_000_123]
STRANGE = {
    "a-field-more": [[*HEAD, "news"], ["-"]],
    "a-field-less": [HEAD[:-1], ["-"]],
    "a-kind-of-frame-that-is-new": [[HEAD[0], "delta", *HEAD[2:]], ["-"]],
    "a-cursor-with-a-field-more": [[*HEAD[:5], [*at(3), 1], *HEAD[6:]], ["-"]],
    "a-kind-of-change-that-is-new": [HEAD, ["grant", 1, "acct_2"]],
    "a-key-with-a-field-more": [HEAD, [*json.loads(encode(KEY)), "quota"]],
    "a-consumer-with-a-field-more": [HEAD, [*json.loads(encode(CONSUMER)), {}]],
    "a-bucket-with-two-fields-more": [HEAD, [*json.loads(encode(CHANGES[0])), 1]],
    "an-access-that-is-new": [HEAD, ["bucket", 1, BUCKET.bucket_id, "my-bucket", None, {"acct_2": "own"}]],
    "objects-for-rows": [{"deployment": "dply_1"}, {"kind": "key"}],
}


@pytest.mark.parametrize("lines", STRANGE.values(), ids=STRANGE)
def test_what_the_origin_signed_but_no_version_that_we_know_wrote_is_refused(lines: list[Any]) -> None:
    assert frame_in(Message(signed(f'{json.dumps(HEAD)}\n["-"]')), SIGNER, FOR_CHANGES)
    with pytest.raises(FrameError, match="can't be read"):
        frame_in(Message(signed("\n".join(map(json.dumps, lines)))), SIGNER, FOR_CHANGES)


# -- an edge of today at a broker of the first release ----------------------------------------------------------------


@pytest.fixture
async def connection(options: NatsOptions) -> AsyncIterator[Connection]:
    """A connection to a broker that has the stored snapshot and, behind it, the stored changes."""
    made = await connect(options, "samples", Clock())
    store, subjects = streams_of(made), made.subjects
    await store.create(subjects.changes_stream, [subjects.changes], 1)
    await store.create(subjects.snapshots_stream, [subjects.snapshot_pages, subjects.snapshot_ends], 1)
    for after, name in enumerate(("page-0", "page-1")):
        await store.append(subjects.snapshot_pages, sample(f"{name}-2.bin"), PEPPER_CHECK, after=after, name=name)
    await store.append(subjects.snapshot_ends, sample("end-2.bin"), PEPPER_CHECK, after=2, name="end")
    await store.append(subjects.changes, sample("changes-2.bin"), PEPPER_CHECK, after=0, name="changes")
    yield made
    await made.close()


@pytest.fixture
async def sync_loop(options: NatsOptions, replica: Replica) -> AsyncIterator[SyncLoop]:
    # No origin speaks: what is kept is applied, and then known not to be all.
    feed = NatsFeed(options, DIGESTER, Clock(), edge_name="edge", first_heartbeat_seconds=0.3)
    made = new_sync_loop(replica, feed, poll_seconds=0.01, longest_pause_seconds=0.02)
    feed.on_message = made.wake
    yield made
    await made.close()
    await feed.close()


async def test_an_edge_begins_with_the_stored_snapshot_and_the_changes_behind_it(
    connection: Connection, replica: Replica, sync_loop: SyncLoop
) -> None:
    await connection.publish(connection.subjects.heartbeats, sample("heartbeat-2.bin"), PEPPER_CHECK)
    with pytest.raises(NotKnownToBeAll):
        await sync_loop.sync_now()
    assert (replica.cursor, replica.deployment_id) == (at(11), "dply_1/everything")
    assert replica.records() == CHANGES[:3]


async def test_an_edge_that_meets_a_newer_format_says_so_and_keeps_what_it_has(
    connection: Connection, replica: Replica, sync_loop: SyncLoop
) -> None:
    with pytest.raises(NotKnownToBeAll):
        await sync_loop.sync_now()
    before = replica.records()
    await streams_of(connection).append(
        connection.subjects.changes, of_format_3("changes"), PEPPER_CHECK, after=1, name="newer"
    )
    with pytest.raises(NotKnownToBeAll, match="different versions"):
        await sync_loop.sync_now()
    assert (replica.cursor, replica.records()) == (at(11), before)


ANSWERED_AT = 1_800_000_000_500

# -- reports, and what is said to them --------------------------------------------------------------------------------


async def take(report: Report) -> float:
    assert report == REPORT
    return 0.5


async def test_a_stored_report_is_taken_and_answered_as_stored() -> None:
    assert ReportSigner(DIGESTER).encode(REPORT) == sample("report-1.bin")
    answer = NatsAcknowledgements(DIGESTER, take, lambda: ANSWERED_AT).answer
    assert await answer(sample("report-1.bin")) == sample("answer-3.json")


def signed_report(row: Any) -> bytes:
    body = json.dumps(row).encode()
    return b"kwr1" + hmac.digest(ReportSigner(DIGESTER)._key, b"kwr1" + body, "sha256") + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sample("report-1.bin").replace(b"kwr1", b"kwr5"), "different versions"),
        (signed_report([*astuple(REPORT)[:11], "news"]), "of another shape"),
        (signed_report(astuple(replace(REPORT, state="draining"))[:11]), "a state that is not known"),  # type: ignore[arg-type]
        (signed_report({"name": "edge-1"}), "of another shape"),
        (sample("report-1.bin")[:-1], "changed on its way"),
    ],
    ids=["a-newer-format", "a-field-more", "a-state-that-is-new", "an-object", "cut-short"],
)
async def test_a_report_that_is_not_understood_is_refused_with_a_reason_and_reaches_nobody(
    data: bytes, why: str
) -> None:
    told = await NatsAcknowledgements(DIGESTER, take, lambda: ANSWERED_AT).answer(data)
    assert told is not None
    assert why in json.loads(told)["refused"]


async def answered(options: NatsOptions, told: bytes) -> float:
    """What an edge makes of an origin's answer to its report."""

    async def answer(data: bytes) -> bytes:
        assert data == sample("report-1.bin")
        return told

    origin = await connect(options, "origin", Clock())
    reports = NatsReports(options, DIGESTER, Clock(), edge_name="edge-1")
    try:
        await origin.reply(origin.subjects.reports, answer)
        return await reports.send(REPORT)
    finally:
        await reports.close()
        await origin.close()


@pytest.mark.parametrize(
    "told",
    [sample("answer-1.json"), sample("answer-2.json"), sample("answer-3.json"), b'{"pauseSeconds":0.5,"news":[]}'],
    ids=["as-stored", "as-stored-with-a-time", "as-stored-of-format-4", "with-a-field-more"],
)
async def test_an_edge_reads_the_stored_answer_and_passes_over_what_is_new_in_it(
    options: NatsOptions, told: bytes
) -> None:
    assert await answered(options, told) == 0.5


async def test_a_refusal_of_an_older_origin_is_told_in_its_words(options: NatsOptions) -> None:
    with pytest.raises(NotTaken, match="the origin refuses the report: not a report of format 1"):
        await answered(options, sample("refusal-1.json"))


@pytest.mark.parametrize(
    "told",
    [b"", b"\xff", b"null", b"[]", b'"refused"', b"{}", b'{"pauseSeconds":null}', b'{"pauseSeconds":"1"}',
     b'{"pauseSeconds":true}', b'{"pauseSeconds":-1}', b'{"pauseSeconds":11}', b'{"pauseSeconds":NaN}',
     b'{"pause":1}', b"[" * 10_000],
    ids=lambda told: told.decode("latin-1")[:24],
)  # fmt: skip
async def test_an_answer_that_is_none_is_a_failure_and_no_pause(options: NatsOptions, told: bytes) -> None:
    with pytest.raises(NotTaken, match="none to a report"):
        await answered(options, told)
