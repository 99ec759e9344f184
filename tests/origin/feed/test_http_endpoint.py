"""The feed over HTTP: who is refused, what comes, and that no reader holds the origin."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Request

from keywright.origin.auth.actors import Actor
from keywright.origin.db import commit_log, tables
from keywright.origin.feed import answers, frame_stream, token_checks
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, Cursor, KeyPut, encode
from keywright.protocol.frames import Frame, FrameKind, FrameSigner, FrameSplitter
from keywright.serve import key_files
from support import record
from support import service as services
from support.clock import FakeClock
from support.service import ROOT_KEY, Service
from support.waiting import until

NONCE = "nonce-of-16-chars"
HEADERS = {"keywright-nonce": NONCE}


class Stream:
    """One answer, read as the test pleases: the server takes what was asked for and no more."""

    def __init__(self, service: Service) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_ended = asyncio.Event()
        self._signer = FrameSigner(key_files.load_digester(service.settings))
        self._splitter = FrameSplitter()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._frames: list[Frame] = []
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        await self._pieces.put(message.get("body", b""))
        if not message.get("more_body", False):
            await self._pieces.put(None)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> Frame | None:
        """The next frame; None when the answer has ended."""
        async with asyncio.timeout(10):
            while not self._frames:
                piece = await self._pieces.get()
                if piece is None:
                    return None
                if self.headers.get("content-encoding") == "gzip":
                    piece = self._inflate(piece)
                self._frames += [self._signer.decode(raw) for raw in self._splitter.feed(piece)]
            return self._frames.pop(0)

    def _inflate(self, piece: bytes) -> bytes:
        if not hasattr(self, "_inflater"):
            self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return self._inflater.decompress(piece)


@asynccontextmanager
async def opened(
    service: Service,
    path: str,
    query: str = "",
    *,
    token: str = ROOT_KEY,
    gzip: bool = False,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Stream]:
    stream = Stream(service)
    zipped = {"accept-encoding": "gzip"} if gzip else {}
    headers = {"authorization": f"Bearer {token}", **HEADERS, **zipped, **(headers or {})}
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip

    async def serve() -> None:
        await service.app(scope, stream.receive, stream.send)
        stream.is_ended.set()

    serving = asyncio.create_task(serve())
    try:
        yield stream
    finally:
        stream.gone.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def cursor_of(service: Service) -> Cursor:
    return await record.cursor_of(service.app._database)


async def cursor_at(service: Service, revision: int) -> Cursor:
    async with service.app._database.read() as tx:
        return (await commit_log.list_changes(tx, after=revision - 1, limit=1))[0].cursor


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("after=1.0123456789abcdef.1", {"authorization": "Bearer nobody-knows-it"}, 401),
        ("after=1.0123456789abcdef.1", {"authorization": ""}, 401),
        ("after=1.0123456789abcdef.1", {"keywright-nonce": "short"}, 400),
        ("after=1.0123456789abcdef.1", {"keywright-nonce": "with space inside."}, 400),
        ("", {}, 400),
        ("after=1", {}, 400),
        ("after=-1.0123456789abcdef.1", {}, 400),
        ("after=1.0123456789abcdef.1e3", {}, 400),
        ("after=%D9%A3.0123456789abcdef.1", {}, 400),
        ("after=9999999999999999999.0123456789abcdef.1", {}, 400),
        ("after=999999.0123456789abcdef.1", {}, 410),
    ],
)
async def test_what_is_no_question_of_an_edge_is_refused(
    embedded: Service, query: str, headers: dict[str, str], status: int
) -> None:
    url = f"/v1/feed/changes?{query}"
    problem = await embedded.call("GET", url, headers={**HEADERS, **headers}, expect=status)
    assert problem["status"] == status


@pytest.mark.parametrize(
    "shown", [[], ["nobody-knows-it"], ["Bearer nobody-knows-it"], [f"Bearer {ROOT_KEY}"] * 2], ids=len
)
async def test_every_401_of_the_feed_names_the_scheme(embedded: Service, shown: list[str]) -> None:
    """RFC 9110 section 15.5.2: an answer of 401 must have WWW-Authenticate."""
    del embedded.client.headers["authorization"]
    headers = [*HEADERS.items(), *(("authorization", one) for one in shown)]
    posts = [("POST", f"/v1/feed/{name}") for name in ("acknowledgements", "leases", "shares")]
    for method, path in (("GET", "/v1/feed"), ("GET", "/v1/feed/snapshot"), *posts):
        answer = await embedded.client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_a_management_key_without_feed_may_not_follow(embedded: Service) -> None:
    token = await embedded.new_management_key(buckets={"*": "write"})
    for path in ("/v1/feed", "/v1/feed/snapshot", "/v1/feed/changes?after=1.0123456789abcdef.1"):
        await embedded.call("GET", path, key=token, headers=HEADERS, expect=403)


async def test_changes_that_are_no_longer_kept_are_410(service: Service) -> None:
    gone, kept = await cursor_at(service, 5), await cursor_at(service, 6)
    async with service.app._database.write() as tx:
        await tx.execute(sa.delete(tables.changes).where(tables.changes.c.revision <= 5))
    await service.call("GET", f"/v1/feed/changes?after={gone}", headers=HEADERS, expect=410)
    async with opened(service, "/v1/feed/changes", f"after={kept}") as stream:
        frame = await stream.next()
        assert frame is not None
        assert (stream.status, frame.follows) == (200, kept)


async def test_a_cursor_of_another_past_is_410_even_at_the_newest_revision(service: Service) -> None:
    for cursor in (await cursor_at(service, 2), await cursor_of(service)):
        for other in (cursor._replace(stamp="0" * 16), cursor._replace(stamped_at=1)):
            await service.call("GET", f"/v1/feed/changes?after={other}", headers=HEADERS, expect=410)
        async with opened(service, "/v1/feed/changes", f"after={cursor}") as stream:
            assert await stream.next() is not None


async def test_a_stream_ends_when_the_record_becomes_another_one_under_it(service: Service) -> None:
    """As a database does that failed over to a standby without the last commits, and is written to."""
    at = await cursor_of(service)
    for revision in (at.revision, at.revision + 1):
        async with opened(service, "/v1/feed/changes", f"after={at}") as stream:
            assert await stream.next() is not None
            await rewrite(service, revision)
            assert await stream.next() is None
        at = await cursor_of(service)


async def rewrite(service: Service, revision: int) -> None:
    """Have another change at the end of the log, with the stamp of another transaction."""
    values = {"stamp": "f" * 16, "stamped_at": 1 + revision}
    async with service.app._database.write() as tx:
        await tx.execute(sa.delete(tables.changes).where(tables.changes.c.revision >= revision - 1))
        for place in (revision - 1, revision):
            await tx.execute(sa.insert(tables.changes).values(revision=place, body='["-"]', **values))
        await tx.execute(sa.update(tables.deployment).values(revision=revision, **values))


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
async def test_each_commit_is_a_frame_at_once_and_bound_to_the_question(
    service: Service, gzip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the change may take longer than the next heartbeat.
    monkeypatch.setattr(answers, "HEARTBEAT_SECONDS", 3600.0)
    consumer = await service.new_consumer()
    at = await cursor_of(service)
    async with opened(service, "/v1/feed/changes", f"after={at}", gzip=gzip) as stream:
        first = await stream.next()
        assert first is not None
        assert (first.kind, first.nonce, first.number, first.cursor, first.head) == (
            FrameKind.CHANGES, NONCE, 0, at, at.revision,
        )  # fmt: skip
        await service.new_key(consumer["name"])
        second = await stream.next()
        assert second is not None
        assert (second.number, second.follows, second.cursor) == (1, at, await cursor_of(service))
        assert isinstance(second.changes[0], KeyPut)


async def test_an_idle_stream_has_a_heartbeat(embedded: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "HEARTBEAT_SECONDS", 0.05)
    at = await cursor_of(embedded)
    async with opened(embedded, "/v1/feed/changes", f"after={at}") as stream:
        frames = [await stream.next() for _ in range(3)]
    assert [frame.number for frame in frames if frame and not frame.changes] == [0, 1, 2]
    times = [frame.time for frame in frames if frame]
    assert times == sorted(times)


@pytest.mark.parametrize("change", [None, {"enabled": False}, {"allowedIps": ["192.0.2.1"]}], ids=str)
async def test_a_stream_ends_when_its_token_is_revoked_or_switched_off_or_not_good_there(
    embedded: Service, monkeypatch: pytest.MonkeyPatch, change: dict[str, object] | None
) -> None:
    monkeypatch.setattr(answers, "TOKEN_CHECK_SECONDS", 0.05)
    body = {"permissions": {"account": "none", "buckets": {"*": "validate"}, "feed": True}}
    made = await embedded.call("POST", "/v1/accounts/my-account/management-keys", json=body)
    at = await cursor_of(embedded)
    async with opened(embedded, "/v1/feed/changes", f"after={at}", token=made["key"]) as stream:
        assert await stream.next() is not None
        url = f"/v1/accounts/my-account/management-keys/{made['id']}"
        if change is None:
            await embedded.call("DELETE", url, expect=204)
        else:
            await embedded.call("PATCH", url, json=change)
        while await stream.next() is not None:
            pass


async def test_a_reader_that_takes_nothing_is_let_go_and_holds_nothing(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_stream, "SEND_SECONDS", 0.1)
    tail = embedded.app._origin.state.feed.tail
    async with opened(embedded, "/v1/feed/changes", f"after={await cursor_at(embedded, 1)}") as stream:
        async with asyncio.timeout(10):
            for _ in range(5):
                await embedded.new_consumer()
            await stream.is_ended.wait()
    assert tail._readers == 0
    assert tail._looking is None


async def test_a_reader_that_goes_away_is_noticed(embedded: Service) -> None:
    async with opened(embedded, "/v1/feed/changes", f"after={await cursor_at(embedded, 1)}") as stream:
        await stream.next()
        stream.gone.set()
        async with asyncio.timeout(5):
            await stream.is_ended.wait()


async def test_streams_end_when_the_process_is_told_to(embedded: Service) -> None:
    at = await cursor_of(embedded)
    async with opened(embedded, "/v1/feed/changes", f"after={at}") as stream:
        assert await stream.next() is not None
        embedded.app._origin.state.feed.stop()
        assert await stream.next() is None
    await embedded.call("GET", f"/v1/feed/changes?after={at}", headers=HEADERS, expect=503)


async def test_a_snapshot_is_pages_and_an_end_and_shows_what_the_reader_may_see(service: Service) -> None:
    consumer = await service.new_consumer()
    await service.new_key(consumer["name"])
    token = await service.new_management_key(buckets={"my-project-preview": "validate"}, feed=True)
    at = await cursor_of(service)
    for bearer, is_seen in ((ROOT_KEY, True), (token, False)):
        async with opened(service, "/v1/feed/snapshot", token=bearer, gzip=True) as stream:
            frames = []
            while (frame := await stream.next()) is not None:
                frames.append(frame)
        assert [frame.number for frame in frames] == list(range(len(frames)))
        assert {frame.cursor for frame in frames} == {at}
        assert [frame.kind for frame in frames[:-1]] == [FrameKind.PAGE] * (len(frames) - 1)
        assert frames[-1].kind is FrameKind.END
        names = {put.name for frame in frames for put in frame.changes if isinstance(put, ConsumerPut)}
        assert (consumer["name"] in names) is is_seen


async def test_eight_readers_of_one_account_leave_places_for_the_snapshots_of_others(embedded: Service) -> None:
    tokens = {}
    for name in ("greedy", "second", "third"):
        await embedded.call("POST", "/v1/accounts", json={"name": name})
        tokens[name] = await embedded.new_management_key(name, feed=True)
    async with AsyncExitStack() as stack:

        async def ask(name: str) -> int:
            """Another reader of this account, which then takes nothing; the status of its answer."""
            stream = await stack.enter_async_context(opened(embedded, "/v1/feed/snapshot", token=tokens[name]))
            async with asyncio.timeout(10):
                while not stream.status:
                    await asyncio.sleep(0.005)
            return stream.status

        assert [await ask("greedy") for _ in range(8)] == [200] * 4 + [503] * 4
        # More than a place each has nobody while half of them are taken.
        assert [await ask("second"), await ask("second"), await ask("third")] == [200, 503, 200]
    async with opened(embedded, "/v1/feed/snapshot", token=tokens["greedy"]) as stream:
        assert await stream.next() is not None
        assert stream.status == 200


async def test_streams_of_one_token_are_bounded_and_no_other_token_is_kept_out(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = embedded.app._origin.state.feed.source.stream_places
    monkeypatch.setattr(places, "_of_token", 2)
    first, second = [await embedded.new_management_key(account="read", feed=True) for _ in range(2)]
    query = f"after={await cursor_of(embedded)}"
    async with AsyncExitStack() as stack:
        for token in (first, first, second):
            stream = await stack.enter_async_context(opened(embedded, "/v1/feed/changes", query, token=token))
            assert await stream.next() is not None
        refused = await embedded.call("GET", f"/v1/feed/changes?{query}", headers=HEADERS, key=first, expect=429)
        assert refused["detail"].startswith("At most 2 streams are open at once for one token")
    assert not places._taken


async def test_the_streams_of_a_token_ask_for_its_rights_once(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "TOKEN_CHECK_SECONDS", 0.05)
    made = await embedded.call(
        "POST", "/v1/accounts/my-account/management-keys", json={"permissions": {"account": "read", "feed": True}}
    )
    asked = []
    checks = embedded.app._origin.state.feed._checks
    ask, may_still = checks._ask, checks.may_still
    # However long twenty streams take to come to it: an answer is as fresh as this clock says.
    clock = FakeClock()
    monkeypatch.setattr(checks, "_clock", clock)
    monkeypatch.setattr(checks, "_ask", lambda *given: asked.append(given) or ask(*given))
    checked: Counter[int] = Counter()

    async def counted(actor: Actor, request: Request) -> bool:
        answer: bool = await may_still(actor, request)
        checked[id(request)] += 1
        return answer

    monkeypatch.setattr(checks, "may_still", counted)
    query = f"after={await cursor_of(embedded)}"
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(opened(embedded, "/v1/feed/changes", query, token=made["key"]))
            for _ in range(20)
        ]
        for stream in streams:
            assert await stream.next() is not None
        await until(lambda: len(checked) == len(streams) and min(checked.values()) > 1)
        assert len(asked) == 1
        await embedded.call("DELETE", f"/v1/accounts/my-account/management-keys/{made['id']}", expect=204)
        clock.advance(token_checks.FRESH_SECONDS)
        for stream in streams:
            while await stream.next() is not None:
                pass
    assert len(asked) == 2


async def test_questions_to_the_feed_are_counted_apart_from_management_requests(tmp_path: Path) -> None:
    async with services.running(services.settings_for(tmp_path / "data")) as service:
        # So slow that nothing is made up for meanwhile, however long the requests take.
        limiter = service.app._origin.state.services.management_rate
        limiter.rate, limiter.burst = 0.001, 5
        answered = [(await service.client.get("/v1/feed", headers=HEADERS)).status_code for _ in range(12)]
        assert (answered[0], answered[-1]) == (200, 429)
        await service.call("GET", "/v1/who-am-i")
        # What is no edge's report counts with them; those of edges do not.
        for address in ("acknowledgements", "shares"):
            forged = await service.client.post(f"/v1/feed/{address}", content=b"no report")
            assert forged.status_code == 429


async def test_a_reader_that_takes_too_slowly_is_ended_and_its_snapshot_with_it(
    embedded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_stream, "SEND_SECONDS", 0.5)
    for _ in range(3):
        await embedded.new_consumer()
    source = embedded.app._origin.state.feed.source
    async with opened(embedded, "/v1/feed/snapshot") as stream:
        async with asyncio.timeout(10):
            # Each piece comes within the time for one, and all of them together do not.
            while not stream.is_ended.is_set():
                await asyncio.sleep(0.3)
                if not stream._pieces.empty():
                    stream._pieces.get_nowait()
    assert not source.snapshot_places._taken


async def _frames(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(10_000)


@pytest.mark.parametrize(("pause", "is_whole"), [(0.02, True), (0.2, False)], ids=["fast enough", "too slow"])
async def test_a_reader_must_keep_up_a_least_rate(
    pause: float, is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_stream, "SEND_SECONDS", 0.4)
    monkeypatch.setattr(frame_stream, "LEAST_BYTES_PER_SECOND", 100_000)
    taken = []

    async def send(message: Any) -> None:
        await asyncio.sleep(pause)
        taken.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    stream = frame_stream.FrameStream(bytes(10_000), _frames(15), {}, "")
    await stream({"type": "http"}, receive, send)
    assert (not taken[-1].get("more_body", True)) is is_whole


async def test_a_grant_ends_a_narrow_stream_with_the_need_of_a_snapshot(embedded: Service) -> None:
    await embedded.call("POST", "/v1/accounts", json={"name": "partner"})
    token = await embedded.new_management_key("partner", buckets={"*": "validate"}, feed=True)
    at = await cursor_of(embedded)
    async with opened(embedded, "/v1/feed/changes", f"after={at}", token=token) as stream:
        assert await stream.next() is not None
        grant = {"account": "partner", "access": "validate"}
        await embedded.call("POST", f"{embedded.bucket_url}/grants", json=grant)
        frame = await stream.next()
        assert frame is not None
        assert frame.kind is FrameKind.SNAPSHOT
        assert await stream.next() is None


async def snapshot_for(service: Service, token: str) -> list[Change]:
    puts: list[Change] = []
    async with opened(service, "/v1/feed/snapshot", token=token) as stream:
        while (frame := await stream.next()) is not None:
            puts += frame.changes
    return puts


async def test_what_a_tenant_is_sent_tells_nothing_of_other_tenants_but_what_its_edge_must_know(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "HEARTBEAT_SECONDS", 3600.0)
    for name in ("partner", "third"):
        await service.call("POST", "/v1/accounts", json={"name": name})
        await service.call("POST", f"{service.bucket_url}/grants", json={"account": name, "access": "write"})
    token = await service.new_management_key("partner", buckets={"*": "validate"}, feed=True)
    await service.new_management_key("third", account="write")
    await service.new_management_key(account="write", feed=True)
    at = await cursor_of(service)
    await service.new_management_key(buckets={service.bucket: "write", "my-project-preview": "write"})
    puts = await snapshot_for(service, token)
    async with opened(service, "/v1/feed/changes", f"after={at}", token=token) as stream:
        first, second = await stream.next(), None
        assert first is not None
        second = first if first.changes else await stream.next()
        assert second is not None
        puts += second.changes
    text = "\n".join(map(encode, puts))
    everything = {put.name: put for put in await snapshot_for(service, ROOT_KEY) if isinstance(put, BucketPut)}
    (owner, *_), shared = {put.account_id for put in everything.values() if put.account_id}, everything[service.bucket]
    partner, third = shared.grants
    assert shared.account_id == owner
    assert [put for put in puts if isinstance(put, BucketPut) and put.name != "_system"] == [
        replace(shared, grants={partner: shared.grants[partner]})
    ]
    for hidden in (third, "my-project-preview", '"root"', '\\"write\\"', '\\"read\\"'):
        assert hidden not in text, hidden
    system = everything["_system"].number
    keys = {put.number: put for put in puts if isinstance(put, ConsumerPut) and put.bucket_number == system}
    # Its own token, the owner key of the bucket, and both keys of the owner's account.
    assert sorted(json.loads(put.metadata)["account"] == owner for put in keys.values()) == [False, True, True, True]
