"""An edge tells how far it is: soon after a change, now and then otherwise, one report at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from edge.world import DIGESTER
from keywright import __version__
from keywright.domain.keyformat import Digester, Secret
from keywright.edge.identity import Identity
from keywright.edge.origin_calls import NotTaken
from keywright.edge.sync import reporting
from keywright.edge.sync.reporting import HttpReports, OnTime, Reporter, ignore_time
from keywright.edge.sync.wiring import new_http_reports
from keywright.protocol.changes import Cursor
from keywright.protocol.reports import EdgeState, ReportSigner
from keywright.runtime.clock import Clock
from support.clock import FakeClock
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keywright.protocol.reports import Report

HERE = Cursor(7, "00112233aabbccdd", 1)


def identity(path: Path, name: str = "edge-1") -> Identity:
    return Identity.load(path, name=name, region="eu-north")


def report_of(one: Identity, **changes: Any) -> Report:
    fields = {"cursor": HERE, "is_synced": True, "since": datetime(2026, 1, 1, tzinfo=UTC), "lag_seconds": 0.25}
    return one.report("dply_1", **{**fields, **changes})


def test_an_edge_is_the_same_after_a_restart_and_another_one_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = identity(tmp_path / "a")
    assert identity(tmp_path / "a").instance == first.instance
    assert identity(tmp_path / "a").start != first.start
    assert identity(tmp_path / "b").instance != first.instance
    # A copy of the directory is another edge, in another place and on another machine.
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "instance").write_bytes((tmp_path / "a" / "instance").read_bytes())
    assert identity(tmp_path / "c").instance != first.instance
    monkeypatch.setattr("socket.gethostname", lambda: "another-machine")
    assert identity(tmp_path / "a").instance != first.instance


def test_where_nothing_can_be_kept_it_is_a_new_edge_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert identity(tmp_path).instance != identity(tmp_path).instance
    assert "a new one at each start" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_of_processes_that_start_at_once_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def too_late(source: Any, target: Any) -> None:
        target.write_text("drawn-by-the-other")
        link(source, target)

    monkeypatch.setattr(os, "link", too_late)
    first = identity(tmp_path)
    monkeypatch.undo()
    assert identity(tmp_path).instance == first.instance


def test_a_report_says_what_is_known_and_no_more(tmp_path: Path) -> None:
    one = identity(tmp_path)
    first, second = report_of(one), report_of(one, is_synced=False)
    assert (first.state, second.state, first.lag) == (EdgeState.SYNCED, EdgeState.BEHIND, 250)
    assert second.number > first.number
    assert (first.name, first.region, first.version) == ("edge-1", "eu-north", __version__)
    starting = report_of(one, cursor=None, lag_seconds=float("inf"))
    assert (starting.state, starting.cursor, starting.lag) == (EdgeState.STARTING, None, None)
    # A replica that an older version filled has a revision of nobody knows which history.
    assert report_of(one, cursor=Cursor(7, "", 0)).cursor is None
    signer = ReportSigner(DIGESTER)
    assert signer.decode(signer.encode(starting, newest=4)) == starting


class Taken:
    """Takes reports, each for as long as `gate` is closed."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.reports: list[Report] = []
        self.under_way = self.most_under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def send(self, report: Report) -> float:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.reports.append(report)
        await self.gate.wait()
        self.under_way -= 1
        if self.error is not None:
            raise self.error
        return self.pause


async def test_what_happens_while_a_report_is_under_way_is_one_more_report(tmp_path: Path) -> None:
    one, taken = identity(tmp_path), Taken(0.0)
    reporter = Reporter(taken, lambda: report_of(one), random.uniform)
    taken.gate.clear()
    running = asyncio.create_task(reporter.run())
    await until(lambda: taken.under_way)
    for _ in range(100):
        reporter.wake()
        await asyncio.sleep(0)
    taken.gate.set()
    await until(lambda: len(taken.reports) == 2)
    await asyncio.sleep(0.05)
    assert (len(taken.reports), taken.most_under_way) == (2, 1)
    reporter.wake()
    await until(lambda: len(taken.reports) == 3)
    running.cancel()


async def test_without_news_there_is_a_heartbeat_and_after_a_failure_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(reporting, "FAILED_PAUSE_SECONDS", 0.02)
    one, taken = identity(tmp_path), Taken(0.0)
    running = asyncio.create_task(Reporter(taken, lambda: report_of(one), random.uniform).run())
    await until(lambda: len(taken.reports) >= 3)
    taken.error = NotTaken("the origin answered 500")
    await until(lambda: len(taken.reports) >= 10)
    assert caplog.text.count("can't report to the origin") == 1
    taken.error = None
    await until(lambda: len(taken.reports) >= 14)
    running.cancel()


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (401, b"{}"), (307, b""), (200, b""), (200, b"[]"), (200, b"{}"), (200, b'{"pauseSeconds":"x"}'),
     (200, b'{"pauseSeconds":-1}'), (200, b'{"pauseSeconds":1e9}'), (200, b'{"pauseSeconds":NaN}'),
     (200, b'{"pauseSeconds":true}'), (200, b'{"pauseSeconds":"1"}'), (200, b"[" * 10_000)],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
async def test_an_answer_that_is_none_is_a_failure_that_is_told(tmp_path: Path, status: int, body: bytes) -> None:
    reports = http_reports(lambda request: httpx2.Response(status, content=body))
    with pytest.raises(NotTaken):
        await reports.send(report_of(identity(tmp_path)))
    await reports.close()


async def test_a_report_goes_out_signed_with_the_token_and_brings_back_a_pause(tmp_path: Path) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"pauseSeconds": 0.5})

    reports, report = http_reports(answer), report_of(identity(tmp_path))
    assert await reports.send(report) == 0.5
    (request,) = asked
    assert (request.method, request.url.path) == ("POST", "/v1/feed/acknowledgements")
    assert request.headers["authorization"] == "Bearer the-token-of-this-edge"
    # In the first format, which tells nothing of what it reads: the origin has not said yet that it reads a newer one.
    assert ReportSigner(DIGESTER).decode(request.content) == replace(report, feed_format=None)
    await reports.close()


async def test_an_origin_that_is_away_is_a_failure_that_is_told(tmp_path: Path) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    reports = http_reports(refuse)
    with pytest.raises(NotTaken, match="ConnectError"):
        await reports.send(report_of(identity(tmp_path)))
    await reports.close()


def http_reports(
    answer: Callable[[httpx2.Request], httpx2.Response], on_time: OnTime = ignore_time, clock: Clock | None = None
) -> HttpReports:
    token = Secret("the-token-of-this-edge")
    reports = new_http_reports(
        "http://origin.test", token, DIGESTER, clock or Clock(), edge_name="edge-1", on_time=on_time
    )
    reports._client._transport = httpx2.MockTransport(answer)
    return reports


async def test_the_time_in_an_answer_is_told_with_when_it_was_asked_and_only_if_it_is_the_origins(
    tmp_path: Path,
) -> None:
    clock, signer, heard = FakeClock(), ReportSigner(DIGESTER), list[tuple[int, float, float]]()
    report, other = report_of(identity(tmp_path)), report_of(identity(tmp_path))
    good = {"pauseSeconds": 0.5, "time": 1_800_000_000_123}
    proof = signer.sign_time(report, good["time"])  # type: ignore[arg-type]
    answers: list[dict[str, Any]] = [
        {**good, "proof": proof},
        {**good, "proof": signer.sign_time(other, 1_800_000_000_123)},
        {**good, "time": 1_800_000_000_124, "proof": proof},
        {**good, "proof": ReportSigner(Digester(bytes(32))).sign_time(report, 1_800_000_000_123)},
        {**good, "proof": "ü"}, {**good, "proof": None}, {**good, "time": True, "proof": proof}, good,
    ]  # fmt: skip

    def answer(_: httpx2.Request) -> httpx2.Response:
        clock.advance(0.25)
        return httpx2.Response(200, json=answers[len(asked)])

    asked: list[int] = []
    reports = http_reports(answer, lambda *told: heard.append(told), clock)
    for number in range(len(answers)):
        assert await reports.send(report) == 0.5
        asked.append(number)
    assert heard == [(1_800_000_000_123, 1000.0, 1000.25)]
    await reports.close()


async def test_what_only_a_newer_format_can_say_is_said_to_origins_that_read_it(tmp_path: Path) -> None:
    report = replace(report_of(identity(tmp_path)), clock_offset=-2_400_000)
    sent: list[bytes] = []
    told: list[httpx2.Response] = [
        httpx2.Response(200, json={"pauseSeconds": 0.5, "reads": 3}),
        httpx2.Response(200, json={"pauseSeconds": 0.5, "reads": 4}),
        # It was replaced by an older one, which knows nothing of that.
        httpx2.Response(400, json={}),
        httpx2.Response(200, json={"pauseSeconds": 0.5}),
        httpx2.Response(200, json={"pauseSeconds": 0.5}),
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.content[:4])
        return told[len(sent) - 1]

    reports = http_reports(answer)
    for _ in told:
        with contextlib.suppress(NotTaken):
            await reports.send(report)
    # The second was for an origin that reads no newer one.
    assert sent == [b"kwr1", b"kwr3", b"kwr4", b"kwr1", b"kwr1"]
    await reports.close()


async def test_what_was_taken_is_told_with_when_it_was_sent_and_whether_it_is_the_first_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(reporting, "LEAST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(reporting, "FAILED_PAUSE_SECONDS", 0.02)
    one, taken = identity(tmp_path), Taken(0.0)
    told: list[tuple[int, float, bool]] = []
    reporter = Reporter(
        taken,
        lambda: report_of(one),
        random.uniform,
        on_taken=lambda report, sent_at, is_back: told.append((report.number, sent_at, is_back)),
        elapsed=lambda: 100.0 + len(taken.reports),
    )
    running = asyncio.create_task(reporter.run())
    await until(lambda: len(told) >= 2)
    taken.error = NotTaken("away")
    await until(lambda: len(taken.reports) >= len(told) + 3)
    count, taken.error = len(told), None
    await until(lambda: len(told) >= count + 2)
    running.cancel()
    assert [is_back for _, _, is_back in told[: count + 2]] == [*[False] * count, True, False]
    assert all(sent_at == 100.0 + number - 1 for number, sent_at, _ in told)


async def test_whoever_finds_the_origin_again_ends_the_pause_after_a_failed_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "FAILED_PAUSE_SECONDS", 1000.0)
    one, taken = identity(tmp_path), Taken(0.0)
    taken.error = NotTaken("away")
    reporter = Reporter(taken, lambda: report_of(one), random.uniform)
    running = asyncio.create_task(reporter.run())
    await until(lambda: len(taken.reports) == 1)
    taken.error = None
    reporter.wake()
    await until(lambda: len(taken.reports) == 2)
    running.cancel()
