"""Owns telling the origin how far this edge is: at once when a change was applied, and from time to time anyway.

At most one report is under way. What is applied meanwhile the next one tells, and the origin's answer says how soon
that is welcome: soon where somebody waits for edges, later where nobody does. Nothing here holds up the follower.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import httpx2

from keywright.edge.origin_calls import NotTaken
from keywright.protocol.reports import ReportSigner

if TYPE_CHECKING:
    from keywright.domain.keyformat import Digester
    from keywright.protocol.reports import Report
    from keywright.runtime.backoff import Uniform
    from keywright.runtime.clock import Clock

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 3.0
SEND_SECONDS = 5.0
FAILED_PAUSE_SECONDS = 1.0
LEAST_PAUSE_SECONDS = 0.1
GOODBYE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 10.0


_FIRST_READ = 2
"""The format of reports that every origin reads."""
OnTime = Callable[[int, float, float], None]


def ignore_time(origin_millis: int, asked_at: float, answered_at: float) -> None:
    """For who judges nothing by the origin's clock."""


class Reports(Protocol):
    """Where reports go: to the origin over HTTP, or to a broker."""

    async def send(self, report: Report) -> float:
        """Seconds until the next report of a mere change is welcome. Raises NotTaken."""
        ...


class Reporter:
    """Sends what `new_report` says of this edge: when woken, and at each heartbeat, until it is cancelled."""

    def __init__(
        self,
        reports: Reports,
        new_report: Callable[[], Report],
        uniform: Uniform,
        *,
        on_taken: Callable[[Report, float, bool], None] = lambda report, sent_at, is_back: None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_taken` is told which report was taken, when it was sent, and whether it is the first after a failure."""
        self._reports = reports
        self._new_report = new_report
        self._uniform = uniform
        self._on_taken = on_taken
        self._elapsed = elapsed
        self._woken = asyncio.Event()
        self._has_failed = False

    def wake(self) -> None:
        """Say that there is something new to tell. From the event loop's own thread."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            try:
                sent_at, report = self._elapsed(), self._new_report()
                pause = await self._reports.send(report)
                is_back, self._has_failed = self._has_failed, False
                self._on_taken(report, sent_at, is_back)
            except Exception as error:  # noqa: BLE001
                # Whether the record can be followed is said by who follows it; this only keeps others from knowing.
                if not self._has_failed:
                    self._has_failed = True
                    _log.warning("can't report to the origin: %s", error)
                # Whoever follows may be faster to find the origin again: what wakes us then is worth a try.
                await asyncio.sleep(LEAST_PAUSE_SECONDS)
                await self._until_woken(FAILED_PAUSE_SECONDS * self._uniform(0.5, 1.0))
                continue
            await asyncio.sleep(pause)
            await self._until_woken(HEARTBEAT_SECONDS - min(pause, HEARTBEAT_SECONDS))

    async def say_goodbye(self, report: Report) -> bool:
        """The last report there is, not sent again if it is lost; whether it may have been taken."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._reports.send(report)
        except Exception as error:  # noqa: BLE001
            was_met = not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
            reason = str(error) or type(error).__name__
            _log.warning("can't say goodbye to the origin (%s): writes wait for this edge until it is retired", reason)
            return was_met
        return True

    async def _until_woken(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


class NoReports:
    """Where an edge reports that has no origin: nowhere."""

    async def send(self, report: Report) -> float:
        return HEARTBEAT_SECONDS

    async def close(self) -> None: ...


class Exchange:
    """What reports and their answers are in bytes, and the time that an answer tells. One for each way there."""

    def __init__(self, digester: Digester, clock: Clock, on_time: OnTime) -> None:
        """`on_time` is told each time of the origin, and when the report was sent and answered (`Clock.elapsed`)."""
        self._signer = ReportSigner(digester)
        self._clock = clock
        self._on_time = on_time
        self._reads = _FIRST_READ

    async def hold(self, report: Report, send: Callable[[bytes], Awaitable[Any]]) -> float:
        """Send a report; the pause that the answer (JSON, parsed) asks for. Raises NotTaken, and what `send` raises."""
        sent_at = self._clock.elapsed()
        newest, self._reads = self._reads, _FIRST_READ
        told = await send(self._signer.encode(report, newest=newest))
        answered_at = self._clock.elapsed()
        try:
            pause = checked_pause(told["pauseSeconds"])
            # An origin that does not say so, or refuses it, is an older one.
            self._reads = int(told.get("reads", _FIRST_READ))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotTaken("the origin's answer is none to a report") from error
        time = self._signer.read_time(report, told)
        if time is not None:
            self._on_time(time, sent_at, answered_at)
        return pause


class HttpReports:
    """Reports to the origin, authenticated by the edge token and by their MAC. `close` it when it is not needed."""

    def __init__(
        self, client: httpx2.AsyncClient, digester: Digester, clock: Clock, on_time: OnTime = ignore_time
    ) -> None:
        """`client` speaks to the origin as this edge (wiring.py); it is closed with this."""
        self._exchange = Exchange(digester, clock, on_time)
        self._client = client

    async def send(self, report: Report) -> float:
        try:
            return await self._exchange.hold(report, self._post)
        except httpx2.HTTPError as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise NotTaken("the origin's answer is none to a report") from error

    async def _post(self, data: bytes) -> Any:
        answer = await self._client.post("/v1/feed/acknowledgements", content=data)
        if answer.status_code != 200:
            raise NotTaken(f"the origin answered {answer.status_code}")
        return answer.json()

    async def close(self) -> None:
        await self._client.aclose()


def checked_pause(told: object) -> float:
    """The pause that an origin asks for, in seconds. Raises ValueError for what is none."""
    # To Python a bool is an int.
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= LONGEST_PAUSE_SECONDS:
        raise ValueError("not a pause")
    return float(told)
