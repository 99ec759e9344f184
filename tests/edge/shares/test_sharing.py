"""What an edge is told of shares holds in its table until its end, whatever comes or does not come after that."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from keywright.domain.keyformat import Digester
from keywright.edge.limits.shard import Asked
from keywright.edge.limits.table import LimitTable, TableUse
from keywright.edge.note_file import NoteFile
from keywright.edge.origin_calls import NotTaken
from keywright.edge.shares import sharing as sharing_module
from keywright.edge.shares.channels import HttpShareChannel
from keywright.edge.shares.meter import SHORT_SECONDS, UseMeter
from keywright.edge.shares.sharing import Sharing, Teller
from keywright.edge.shares.status import NOTE, SharesStatus
from keywright.protocol.shares import (
    HELD_SECONDS,
    MAX_BYTES,
    MAX_USES,
    NO_SHARE,
    RISE_SECONDS,
    WHOLE,
    ShareAnswer,
    SharesSigner,
    UseReport,
)
from support.clock import FakeClock
from support.shares import limit_id

SIGNER = SharesSigner(Digester(bytes(32)))
LIMIT, OTHER = limit_id(1), limit_id(2)
BOOT = "this-start"


@dataclass
class Origin:
    """Answers as it is told to, and notes what it was asked."""

    shares: dict[bytes, int] = field(default_factory=dict)
    fallback: int = WHOLE // 4
    is_whole: bool = True
    is_away: bool = False
    before: Callable[[], None] = lambda: None
    asked: list[UseReport] = field(default_factory=list)

    async def ask(self, report: UseReport) -> ShareAnswer:
        self.asked.append(report)
        self.before()
        if self.is_away:
            raise NotTaken("away")
        return ShareAnswer(len(self.asked), self.fallback, 4, 0.0, self.is_whole, dict(self.shares))


class Edge:
    """An edge's table and what asks for its shares, which a test has ask once."""

    def __init__(self, directory: Path, clock: FakeClock, origin: Origin, *, boot: str = BOOT) -> None:
        self.clock = clock
        self.table = LimitTable(directory / boot, clock.elapsed, boot_id=boot, first_share=0.0)
        note = NoteFile(directory / NOTE, logging.getLogger("test"))
        teller = Teller("instance-of-edge", "0" * 16, lambda: "dply")
        self.sharing = Sharing(
            self.table, origin, teller, clock.elapsed, note, boot_id=boot, has_limits=lambda: True
        )  # fmt: skip
        self.sharing._begin()

    async def ask(self) -> None:
        await self.sharing._set_shares()
        uses = self.sharing._meter.measure(self.table.list_uses(30), self.clock.elapsed())
        await self.sharing._ask(uses)
        await self.sharing._set_shares()
        self.sharing._write_note()

    def take_all(self, id: bytes = LIMIT, most: int = 200) -> int:
        asked = Asked(id, 100, 1000, True)
        return next(count for count in range(most + 1) if not self.table.take([asked])[0])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_edge_lets_nothing_through_before_it_is_told_its_share(tmp_path: Path, clock: FakeClock) -> None:
    origin = Origin({LIMIT: WHOLE // 2})
    edge = Edge(tmp_path, clock, origin)
    await edge.sharing._set_shares()
    assert edge.take_all() == 0
    await edge.ask()
    assert edge.take_all(OTHER) == 25


async def test_big_share_ends_after_10_seconds_and_a_small_one_grows_later(tmp_path: Path, clock: FakeClock) -> None:
    origin = Origin()
    edge = Edge(tmp_path, clock, origin)
    await edge.ask()
    origin.shares = {LIMIT: WHOLE // 2, OTHER: WHOLE // 50}
    await edge.ask()
    # In a window this long nothing to speak of is given back.
    assert (edge.take_all(LIMIT), edge.take_all(OTHER)) == (25, 2)
    origin.is_away = True
    rates = []
    for seconds in (HELD_SECONDS - 1, 2, RISE_SECONDS - HELD_SECONDS - 2, 2):
        clock.advance(seconds)
        with pytest.raises(NotTaken):
            await edge.ask()
        edge.take_all(LIMIT)
        edge.take_all(OTHER)
        rates.append([round(use.given_back * 1000) for use in edge.table.list_uses(60)])
    assert [sorted(one) for one in rates] == [[2, 50], [2, 25], [2, 25], [25, 25]]


async def test_share_that_is_told_again_does_not_end(tmp_path: Path, clock: FakeClock) -> None:
    origin = Origin({LIMIT: WHOLE // 2})
    edge = Edge(tmp_path, clock, origin)
    edge.table.take([Asked(LIMIT, 100, 1000, True)])
    for _ in range(30):
        await edge.ask()
        clock.advance(1)
        origin.is_whole, origin.shares = False, {}
        edge.table.take([Asked(LIMIT, 100, 1000, True)])
        (use,) = edge.table.list_uses(5)
        assert use.given_back == pytest.approx(0.05)
    origin.shares = {LIMIT: NO_SHARE}
    await edge.ask()
    assert edge.sharing._held.shares == {}


async def test_after_a_start_of_the_machine_the_fallback_share_waits(tmp_path: Path, clock: FakeClock) -> None:
    origin = Origin()
    await Edge(tmp_path, clock, origin).ask()
    origin.is_away = True
    other_process = Edge(tmp_path, clock, origin)
    await other_process.sharing._set_shares()
    assert other_process.take_all() == 25
    clock.count = 5.0
    started_anew = Edge(tmp_path, clock, origin, boot="next-start")
    await started_anew.sharing._set_shares()
    assert started_anew.take_all() == 0
    clock.advance(RISE_SECONDS)
    await started_anew.sharing._set_shares()
    # What it comes to have now was used up elsewhere.
    assert started_anew.take_all() == 0
    clock.advance(1000)
    assert started_anew.take_all() == 25


@pytest.mark.parametrize("noted", [b"", b"{", b"[]", b'{"fallback":-1,"boot":"this-start"}', b'{"fallback":"x"}'])
async def test_note_of_garbage_gives_nothing(tmp_path: Path, clock: FakeClock, noted: bytes) -> None:
    (tmp_path / NOTE).write_bytes(noted)
    edge = Edge(tmp_path, clock, Origin())
    assert edge.sharing._held.fallback_at(clock.elapsed() + 100) == 0
    assert SharesStatus.read(tmp_path / NOTE, clock.elapsed(), "x") is None


async def test_answer_that_came_while_the_machine_slept_is_not_taken(tmp_path: Path, clock: FakeClock) -> None:
    origin = Origin({LIMIT: WHOLE}, before=lambda: clock.advance(60))
    edge = Edge(tmp_path, clock, origin)
    with pytest.raises(NotTaken, match="too late"):
        await edge.ask()
    assert edge.take_all() == 0


async def test_edge_with_many_limits_tells_them_in_parts_and_no_more_than_it_may(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_module, "MAX_USES", 3)
    monkeypatch.setattr(sharing_module, "MAX_LIMITS", 8)
    origin = Origin()
    edge = Edge(tmp_path, clock, origin)
    for number in range(10):
        edge.table.take([Asked(limit_id(number), 100, 10, True)])
    await edge.ask()
    assert [(len(one.uses), one.part, one.parts) for one in origin.asked] == [(3, 0, 3), (3, 1, 3), (2, 2, 3)]
    assert [one.number for one in origin.asked] == [1, 2, 3]
    assert MAX_USES > 3


async def test_edge_without_limits_asks_until_it_has_its_part_and_then_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, origin, looks = FakeClock(), Origin(fallback=0), 0
    edge = Edge(tmp_path, clock, origin)
    edge.sharing._has_limits = lambda: False

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        origin.fallback = 0 if looks < 4 else WHOLE // 2
        origin.is_away = looks > 150
        clock.advance(max(seconds, 1.0))
        if looks > 200:
            raise asyncio.CancelledError

    monkeypatch.setattr(sharing_module.asyncio, "sleep", sleep)
    asked = []
    origin.before = lambda: asked.append(round(clock.elapsed() - 1))
    started = round(clock.elapsed() - 1)
    with pytest.raises(asyncio.CancelledError):
        await edge.sharing.run()
    # 0 three times, half of each limit, and once more to tell that it goes by that.
    assert [at - started for at in asked[:9]] == [0, 1, 2, 3, 4, 5, 35, 65, 95]
    # An origin that is away, or too old, is asked for more often, and nobody misses it.
    assert [later - at for at, later in zip(asked[-4:], asked[-3:], strict=False)] == [5, 5, 5]
    assert not caplog.text


async def test_loop_goes_on_after_failures_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_module, "LOOK_SECONDS", 0.0)
    clock, failures = FakeClock(), iter([NotTaken("gone"), OSError("disk"), RuntimeError("a bug"), NotTaken("gone")])
    origin = Origin()

    def fail() -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    origin.before = fail
    edge = Edge(tmp_path, clock, origin)
    running = asyncio.create_task(edge.sharing.run())
    async with asyncio.timeout(5):
        while SharesStatus.read(tmp_path / NOTE, clock.elapsed(), BOOT) is None:
            await asyncio.sleep(0.01)
    running.cancel()
    assert sum("can't get this edge's shares" in line for line in caplog.text.splitlines()) == 1
    status = SharesStatus.read(tmp_path / NOTE, clock.elapsed(), BOOT)
    assert status is not None
    assert (status.edges, status.fallback, status.limits) == (4, 0.25, 0)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[HttpShareChannel]:
    """A channel to what answers each request so."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line)
        await reader.readexactly(length)
        try:
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    channel = HttpShareChannel(httpx2.AsyncClient(base_url=url, timeout=2), Digester(bytes(32)))
    try:
        yield channel
    finally:
        await channel.close()
        server.close()


REPORT = UseReport("dply", "instance-of-edge", "0" * 16, 1, 0, {})


async def test_answer_is_read_no_further_than_one_can_be_long() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            writer.write(bytes(100_000))
            sent += 100_000
            await writer.drain()

    async with serving(flood) as channel:
        with pytest.raises(NotTaken, match="more than"):
            await channel.ask(REPORT)
    assert sent < 100_000_000 / 2


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", SIGNER.encode_report(REPORT), json.dumps({"shares": {}}).encode(), bytes(MAX_BYTES),
        SIGNER.encode_answer(ShareAnswer(1, WHOLE, 1, 1.0), UseReport("dply", "instance-of-edge", "0" * 16, 2, 0, {})),
        SharesSigner(Digester(bytes([1] * 32))).encode_answer(ShareAnswer(1, WHOLE, 1, 1.0), REPORT),
    ],
    ids=["empty", "garbage", "the question", "JSON", "zeros", "to another question", "by another pepper"],
)  # fmt: skip
async def test_answer_that_is_none_is_not_taken(body: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with serving(answer) as channel:
        with pytest.raises(NotTaken):
            await channel.ask(REPORT)


async def test_refusal_and_a_closed_line_are_no_answer() -> None:
    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")

    async def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")

    for answer, told in ((refuse, "503"), (hang_up, "Protocol")):
        async with serving(answer) as channel:
            with pytest.raises(NotTaken, match=told):
                await channel.ask(REPORT)


# -- how it is used ---------------------------------------------------------------------------------------------------


def used(admitted: int, *, age: float = 0.1, is_full: bool = False, given_back: float = 100.0) -> list[TableUse]:
    return [TableUse(LIMIT, 100, 10, admitted, given_back, is_full, age)]


def test_rate_is_that_of_what_is_admitted_and_ends_when_nobody_asks() -> None:
    meter, now = UseMeter(0.0), 0.0
    for second in range(10):
        now += 1
        found = meter.measure(used(second * 20), now)[LIMIT]
    assert found.rate == pytest.approx(20, rel=0.02)
    assert not found.is_short
    for second in range(4):
        now += 1
        found = meter.measure(used(180, age=second + 2.0), now)[LIMIT]
    assert found.rate < 2


def test_edge_is_short_while_it_refuses_and_until_nobody_asks() -> None:
    meter = UseMeter(0.0)
    assert meter.measure(used(1, is_full=True), 1.0)[LIMIT].is_short
    assert meter.measure(used(2), 2.0)[LIMIT].is_short
    assert not meter.measure(used(2), 2.0 + SHORT_SECONDS)[LIMIT].is_short
    assert meter.measure(used(3, is_full=True), 8.0)[LIMIT].is_short
    assert not meter.measure(used(3, is_full=True, age=2.0), 9.0)[LIMIT].is_short


def test_edge_that_admits_nearly_all_that_is_given_back_is_short() -> None:
    meter = UseMeter(0.0)
    for second in range(8):
        found = meter.measure(used(second * 18, given_back=20.0), second + 1.0)[LIMIT]
    assert found.is_short


def test_limit_that_is_asked_for_seldom_is_looked_at_for_longer() -> None:
    meter, now = UseMeter(0.0), 0.0
    for _ in range(20):
        now += 1
        meter.measure(used(1, age=3.0, is_full=True), now)
    assert meter.measure(used(1, age=6.0, is_full=True), now + 1)[LIMIT].is_short
