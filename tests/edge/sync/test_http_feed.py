"""What comes over the wire is the origin's answer to this very question, or it is refused and nothing is applied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from edge.world import DIGESTER, PEPPER_CHECK, at, bucket, consumer, key, state
from keywright.domain.keyformat import Digester, Secret
from keywright.edge.replica.replica import Replica
from keywright.edge.sync import http_feed
from keywright.edge.sync.feed import LiveFeed, OtherPepper, RecordBehind, Refused, SnapshotNeeded, Untrusted
from keywright.edge.sync.http_feed import HttpFeed, OriginUnavailable
from keywright.edge.sync.loop import SyncLoop
from keywright.edge.sync.wiring import new_http_feed
from keywright.protocol.changes import Change, ConsumerDelete, Cursor
from keywright.protocol.frames import Frame, FrameKind, FrameSigner
from keywright.runtime.clock import Clock
from support.sync import new_sync_loop
from support.waiting import until

SIGNER = FrameSigner(DIGESTER)
LOG: list[Change] = [bucket(1, "my-bucket"), consumer(1, 1), key("zpka_secret-1", 1, 1), key("zpka_secret-2", 1, 1)]


@dataclass
class ScriptedOrigin:
    """An HTTP server that says what a test tells it to, with honest frames around which a test may do anything."""

    log: list[Change] = field(default_factory=lambda: list(LOG))
    deployment: str = "dply_1"
    scope: str = "everything"
    history: int = 1
    status: int = 200
    refuses: Callable[[str], int] | None = None
    pepper_check: str | None = PEPPER_CHECK
    alter: Callable[[Frame], Frame] = lambda frame: frame
    damage: Callable[[bytes], bytes] = lambda data: data
    requests: list[str] = field(default_factory=list)
    formats: set[str] = field(default_factory=set)
    """What requests named as the newest format that is read."""
    ends_at_once: bool = False
    port: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = request.split(" ")[1]
        self.requests.append(path)
        status = self.refuses(path) if self.refuses else self.status
        nonce = next(
            line.split(": ")[1] for line in request.split("\r\n") if line.lower().startswith("keywright-nonce")
        )
        self.formats |= {
            line.split(": ")[1] for line in request.split("\r\n") if line.lower().startswith("keywright-feed-format")
        }
        check = "" if self.pepper_check is None else f"keywright-pepper-check: {self.pepper_check}\r\n"
        writer.write(f"HTTP/1.1 {status} Answer\r\n{check}connection: close\r\n\r\n".encode())
        if status == 200:
            for number, frame in enumerate(self.frames(path)):
                honest = replace(frame, nonce=nonce, number=number, deployment_id=self.deployment, scope=self.scope)
                writer.write(self.damage(SIGNER.encode(self.alter(honest))))
        await writer.drain()
        if status != 200 or self.ends_at_once or not path.startswith("/v1/feed/changes"):
            writer.close()

    def frames(self, path: str) -> Sequence[Frame]:
        head = len(self.log)
        blank = Frame("", FrameKind.END, "", "", 0, self.at(0), self.at(head), head, 1000)
        if path == "/v1/feed":
            return [blank]
        if path == "/v1/feed/snapshot":
            puts = state(self.log)
            return [replace(blank, kind=FrameKind.PAGE, changes=puts[:2]),
                    replace(blank, kind=FrameKind.PAGE, changes=puts[2:]), blank]  # fmt: skip
        after = Cursor.parse(path.partition("after=")[2])
        frames = [
            replace(blank, kind=FrameKind.CHANGES, follows=self.at(place), cursor=self.at(place + 1), changes=[change])
            for place, change in enumerate(self.log)
        ]
        return [*frames[after.revision :], replace(blank, kind=FrameKind.CHANGES, follows=self.at(head))]

    def at(self, revision: int) -> Cursor:
        return at(revision, self.history)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    made = ScriptedOrigin()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.close()
    server.close()


@pytest.fixture
async def feed(origin: ScriptedOrigin) -> AsyncIterator[HttpFeed]:
    made = new_http_feed(
        f"http://127.0.0.1:{origin.port}", Secret("token-of-the-edge"), DIGESTER, Clock(), edge_name="edge"
    )
    yield made
    await made.close()


@pytest.fixture
async def sync_loop(replica: Replica, feed: HttpFeed) -> AsyncIterator[SyncLoop]:
    made = new_sync_loop(replica, feed, poll_seconds=0.01, longest_pause_seconds=0.02)
    yield made
    await made.close()


async def test_an_edge_takes_a_snapshot_then_changes_and_is_in_step(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, feed: HttpFeed
) -> None:
    assert isinstance(feed, LiveFeed)
    before = Clock().elapsed()
    await sync_loop.sync_now()
    assert replica.records() == state(origin.log)
    assert (replica.deployment_id, origin.formats) == ("dply_1/everything", {"3"})
    assert (sync_loop.revision, sync_loop.is_synced, sync_loop.reason) == (4, True, None)
    assert sync_loop.lag_seconds <= Clock().elapsed() - before
    await break_off(origin, feed)
    origin.log.append(ConsumerDelete(1))
    await sync_loop.sync_now()
    assert (sync_loop.revision, replica.records()) == (5, state(origin.log))
    assert origin.requests[-1] == f"/v1/feed/changes?after={at(4)}"


ALTERED: dict[str, dict[str, Any]] = {
    "an-answer-to-another-question": {"nonce": "nonce-of-another-request"},
    "a-frame-out-of-its-place": {"number": 7},
    "another-deployment": {"deployment_id": "dply_2"},
    "another-scope": {"scope": "narrow"},
    "a-page-among-changes": {"kind": FrameKind.PAGE},
    "changes-that-follow-something-else": {"follows": at(3)},
    "changes-that-follow-another-past": {"follows": at(4, 2)},
    "a-revision-without-its-change": {"cursor": at(9)},
    "a-head-in-the-past": {"head": 1},
}


async def test_an_edge_that_moves_between_origins_of_two_formats_fills_its_replica_anew_and_is_never_set_back(
    origin: ScriptedOrigin, replica: Replica, feed: HttpFeed, sync_loop: SyncLoop
) -> None:
    await sync_loop.sync_now()
    origin.scope = "everything/3"
    origin.log.append(ConsumerDelete(1))
    await break_off(origin, feed)
    with pytest.raises(Untrusted):
        await sync_loop.sync_now()
    await sync_loop.sync_now()
    assert (replica.deployment_id, replica.records()) == ("dply_1/everything/3", state(origin.log))
    # The one of before is beside a database that is behind.
    origin.scope = "everything"
    origin.log.pop()
    await break_off(origin, feed)
    for _ in range(3):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await sync_loop.sync_now()
    assert isinstance(caught.value, RecordBehind)
    assert (replica.deployment_id, replica.revision) == ("dply_1/everything/3", 5)


UNREAD: dict[str, Callable[[bytes], bytes]] = {
    "frames-of-another-format": lambda data: data.replace(b"kwf2", b"kwf9"),
    "a-kind-of-row-that-is-new": lambda data: resigned(data, b'["-consumer",1]', b'["grant9",1]'),
}


def resigned(data: bytes, old: bytes, new: bytes) -> bytes:
    """A frame with another row, as an origin would make it that knows of such ones."""
    signed = data[4 + 4 + 32 :].replace(old, new)
    mac = SIGNER._mac(signed)
    return b"%b%b%b%b" % ((4 + 32 + len(signed)).to_bytes(4, "big"), b"kwf2", mac, signed)


@pytest.mark.parametrize("damage", UNREAD.values(), ids=UNREAD)
async def test_a_format_that_is_not_read_is_a_reason_of_its_own_and_ends_with_it(
    origin: ScriptedOrigin, replica: Replica, feed: HttpFeed, sync_loop: SyncLoop, damage: Callable[[bytes], bytes]
) -> None:
    await sync_loop.sync_now()
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    assert not sync_loop.is_format_unknown
    origin.damage = damage
    await break_off(origin, feed)
    origin.log.append(ConsumerDelete(1))
    await until(lambda: sync_loop.is_format_unknown)
    assert sync_loop.reason is not None
    assert sync_loop.reason.startswith("OtherFormat: ")
    assert "different versions" in sync_loop.reason
    assert replica.revision == 4
    origin.damage = lambda data: data
    await until(lambda: sync_loop.is_synced and replica.revision == 5)
    assert (sync_loop.is_format_unknown, sync_loop.reason) == (False, None)
    stop.set()
    await running


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
async def test_a_frame_that_the_origin_made_for_something_else_is_refused(
    origin: ScriptedOrigin, replica: Replica, feed: HttpFeed, sync_loop: SyncLoop, change: dict[str, Any]
) -> None:
    await sync_loop.sync_now()
    await break_off(origin, feed)
    origin.log += [ConsumerDelete(1)]
    origin.alter = lambda frame: replace(frame, **change) if frame.kind is FrameKind.CHANGES else frame
    with pytest.raises(Untrusted):
        await feed.changes(at(4))
    assert replica.revision == 4
    assert feed.synced_at is None
    # A question without an answer is asked anew.
    origin.alter = lambda frame: frame
    assert list((await feed.changes(at(4))).changes) == [ConsumerDelete(1)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b"kwf2", b"kwf3"),
        lambda _: b"\xff" * 99,
    ],
    ids=["a-flipped-bit", "a-newer-format", "no-frame-at-all"],
)  # fmt: skip
async def test_bytes_that_are_not_the_origins_are_refused(
    origin: ScriptedOrigin, feed: HttpFeed, damage: Callable[[bytes], bytes]
) -> None:
    origin.damage = damage
    for question in (feed.deployment_id(), feed.snapshot(), feed.changes(at(0))):
        with pytest.raises(Untrusted):
            await question


STATUSES: dict[int, tuple[type[Exception], str]] = {
    401: (Refused, "token"), 403: (Refused, "feed"), 404: (Refused, "KEYWRIGHT_ORIGIN_URL"), 307: (Refused, "307"),
    410: (SnapshotNeeded, "stamp"), 429: (OriginUnavailable, "429"), 500: (OriginUnavailable, "500"),
    503: (OriginUnavailable, "503"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "meaning"), STATUSES.items(), ids=map(str, STATUSES))
async def test_a_refusal_is_told_from_an_absence(
    origin: ScriptedOrigin, feed: HttpFeed, status: int, meaning: tuple[type[Exception], str]
) -> None:
    origin.status = status
    with pytest.raises(meaning[0], match=meaning[1]):
        await feed.changes(at(0))


async def test_another_pepper_is_named_and_so_is_what_is_no_origin(origin: ScriptedOrigin, feed: HttpFeed) -> None:
    origin.pepper_check = Digester(bytes(32)).pepper_check()
    with pytest.raises(OtherPepper, match="pepper"):
        await feed.deployment_id()
    origin.pepper_check = None
    with pytest.raises(Refused, match="no Keywright origin"):
        await feed.deployment_id()


async def test_an_origin_that_is_not_there_is_unavailable(feed: HttpFeed) -> None:
    absent = new_http_feed("http://127.0.0.1:1", Secret("token-of-the-edge"), DIGESTER, Clock(), edge_name="edge")
    with pytest.raises(OriginUnavailable):
        await absent.deployment_id()
    await absent.wait_for_changes()
    await absent.close()


async def test_silence_is_not_taken_for_quiet(
    origin: ScriptedOrigin, feed: HttpFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await feed.deployment_id()
    await feed.changes(at(4))
    monkeypatch.setattr(http_feed, "SILENCE_SECONDS", 0.05)
    with pytest.raises(OriginUnavailable, match="nothing was heard"):
        await feed.wait_for_changes()


@pytest.mark.parametrize("kept", [1, 2], ids=["after-a-page", "before-the-end"])
async def test_a_part_of_a_snapshot_is_never_taken_for_the_whole(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    whole = origin.frames
    monkeypatch.setattr(origin, "frames", lambda path: whole(path)[:kept] if "snapshot" in path else whole(path))
    with pytest.raises(OriginUnavailable):
        await sync_loop.sync_now()
    assert replica.revision is None


async def test_pages_of_two_snapshots_are_not_one(
    origin: ScriptedOrigin, replica: Replica, sync_loop: SyncLoop
) -> None:
    origin.alter = lambda frame: replace(frame, cursor=at(4, frame.number))
    with pytest.raises(Untrusted):
        await sync_loop.sync_now()
    origin.alter = lambda frame: replace(frame, kind=FrameKind.END)
    with pytest.raises(Untrusted):
        await sync_loop.sync_now()
    assert replica.revision is None


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [({}, False), ({"history": 50_000}, True), ({"deployment": "dply_2"}, True)],
    ids=["behind", "of-another-past", "of-another-deployment"],
)
async def test_an_older_record_is_waited_for_unless_it_is_another_one(
    origin: ScriptedOrigin,
    replica: Replica,
    feed: HttpFeed,
    sync_loop: SyncLoop,
    change: dict[str, Any],
    is_taken: bool,
) -> None:
    await sync_loop.sync_now()
    await break_off(origin, feed)
    del origin.log[2:]
    for name, value in change.items():
        setattr(origin, name, value)
    origin.refuses = lambda path: 410 if f"after={at(4)}" in path else 200
    with contextlib.suppress(RecordBehind, Untrusted):
        await sync_loop.sync_now()
    with contextlib.suppress(RecordBehind):
        await sync_loop.sync_now()
    assert sync_loop.is_synced is is_taken
    assert replica.cursor == (origin.at(2) if is_taken else at(4))


async def test_a_reader_that_may_see_more_takes_a_snapshot(
    origin: ScriptedOrigin, feed: HttpFeed, sync_loop: SyncLoop
) -> None:
    await sync_loop.sync_now()
    await break_off(origin, feed)
    origin.log.append(ConsumerDelete(1))
    origin.alter = lambda frame: (
        replace(frame, kind=FrameKind.SNAPSHOT, changes=())
        if frame.kind is FrameKind.CHANGES and frame.follows == at(4)
        else frame
    )
    await sync_loop.sync_now()
    assert origin.requests[-2:] == ["/v1/feed/snapshot", f"/v1/feed/changes?after={at(5)}"]
    assert sync_loop.revision == 5


async def test_the_loop_follows_by_itself_and_a_refusal_is_an_error_in_the_log(
    origin: ScriptedOrigin, sync_loop: SyncLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keywright.edge.sync.loop.REFUSED_PAUSE_SECONDS", 0.01)
    stop = asyncio.Event()
    origin.status = 401
    running = asyncio.create_task(sync_loop.run(stop))
    async with asyncio.timeout(10):
        while len(origin.requests) < 3:
            await asyncio.sleep(0.005)
        assert "401" in str(sync_loop.reason)
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        origin.status = 200
        while not sync_loop.is_synced:
            await asyncio.sleep(0.005)
        origin.log.append(ConsumerDelete(1))
        origin.close()
        while sync_loop.revision != 5:
            await asyncio.sleep(0.005)
    stop.set()
    async with asyncio.timeout(5):
        await running


async def test_an_origin_that_is_met_by_a_report_ends_a_pause_and_no_answer(
    origin: ScriptedOrigin, feed: HttpFeed, replica: Replica
) -> None:
    """A line on which requests get lost has an open answer still: an edge that asks anew without need is deaf."""
    sync_loop = new_sync_loop(replica, feed, poll_seconds=60, longest_pause_seconds=60)

    def refuse_first(path: str) -> int:
        sync_loop.origin_seen(is_back=True)
        return 200 if origin.requests[1:] else 503

    origin.refuses = refuse_first
    stop = asyncio.Event()
    running = asyncio.create_task(sync_loop.run(stop))
    async with asyncio.timeout(5):
        while not sync_loop.is_synced:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.2)
    assert origin.requests == ["/v1/feed", "/v1/feed", "/v1/feed/snapshot", f"/v1/feed/changes?after={at(4)}"]
    stop.set()
    async with asyncio.timeout(5):
        await running
    await sync_loop.close()


async def break_off(origin: ScriptedOrigin, feed: HttpFeed) -> None:
    """End the answer that is open, and have the feed hear of it."""
    origin.close()
    with pytest.raises(OriginUnavailable):
        await feed.wait_for_changes()
