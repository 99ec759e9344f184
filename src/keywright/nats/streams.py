"""Owns what a broker keeps: JetStream's streams, how messages are put into them, found, and read in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import nats.js.errors

from keywright.nats.connection import (
    ANSWER_SECONDS,
    DEPLOYMENT_HEADER,
    PEPPER_HEADER,
    BrokerRefused,
    BrokerUnavailable,
    StreamMissing,
    message_of,
)
from keywright.runtime import tasks

if TYPE_CHECKING:
    from keywright.nats.connection import Connection, Message

QUIET_SECONDS = 1.0
"""How often a reader asks that has heard of no news: the broker may be gone, or the stream."""
POLL_SECONDS = 0.25
"""How often one asks that hears of none."""
FIRST_PAUSE_SECONDS = 0.005
AT_ONCE = 16
"""How many messages are asked for at once; each may be as large as a frame."""
_NO_MESSAGE = 10037


class Streams:
    """The streams of one JetStream domain. A message's `seq` is its sequence number in its stream."""

    def __init__(self, connection: Connection, domain: str) -> None:
        """`domain` is "" for that of the server itself."""
        self.name = f"the broker's domain {domain}" if domain else "the broker"
        self._connection = connection
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self._js = connection.client.jetstream(timeout=ANSWER_SECONDS, domain=domain or None)

    async def bounds(self, stream: str) -> Bounds:
        """Raises StreamMissing, BrokerUnavailable, BrokerRefused."""
        answer = await self._ask(f"STREAM.INFO.{stream}", {})
        state, now = answer["state"], answer.get("ts", "")
        idle = _seconds(now) - _seconds(state["last_ts"]) if state["messages"] and now else 0.0
        return Bounds(state["first_seq"], state["last_seq"], max(0.0, idle), str(answer.get("created", "")))

    async def create(self, stream: str, subjects: list[str], replicas: int) -> None:
        """Creates a stream, or leaves it as it is."""
        config = {"retention": "limits", "storage": "file", "discard": "new", "num_replicas": replicas}
        await self._create({**config, "name": stream, "subjects": subjects, "max_consumers": -1})

    async def create_mirror(self, stream: str, domain: str, deliver_prefix: str) -> None:
        """Creates a mirror here of a stream in another domain, or leaves it as it is.

        What fills it is sent on subjects with this prefix.
        """
        source = {"name": stream, "external": {"api": f"$JS.{domain}.API", "deliver": deliver_prefix}}
        await self._create({"name": stream, "retention": "limits", "storage": "file", "mirror": source})

    async def delete(self, stream: str) -> None:
        await self._ask(f"STREAM.DELETE.{stream}", {})

    async def purge(self, stream: str, before: int) -> None:
        """Deletes every message before a sequence number."""
        await self._ask(f"STREAM.PURGE.{stream}", {"seq": before})

    async def find(self, stream: str, seq: int) -> Message | None:
        """None when it is not kept."""
        # An empty stream's last is 0, which can't be asked for.
        return await self._find(stream, seq=seq) if seq > 0 else None

    async def find_last(self, stream: str, subject: str) -> Message | None:
        """The last message of a subject, None when there is none."""
        return await self._find(stream, subject=subject)

    async def bisect(self, stream: str, bounds: Bounds, is_behind: Callable[[Message], bool]) -> int:
        """The seq of the first message within bounds that is behind what is looked for; after the last if none is."""
        low, high = bounds.first, bounds.last + 1
        while low < high:
            middle = (low + high) // 2
            message = await self.find(stream, middle)
            if message is not None and is_behind(message):
                high = middle
            else:
                low = middle + 1
        return low

    async def append(
        self, subject: str, data: bytes, pepper_check: str, *, after: int, name: str, deployment_id: str = ""
    ) -> int:
        """Keeps a message directly behind the one at `after`; its own seq. Raises NotLast.

        `name` and `after` are its id for the broker: one that is sent twice is kept once.
        """
        headers = {
            "Nats-Expected-Last-Sequence": str(after),
            "Nats-Msg-Id": f"{after}/{name}",
            PEPPER_HEADER: pepper_check,
        }
        if deployment_id:
            headers[DEPLOYMENT_HEADER] = deployment_id
        with self._connection.translating(self.name):
            answer = await self._js.publish(subject, data, headers=headers)
        return answer.seq

    def read(self, stream: str, seq: int, wake: Callable[[], None], *, is_told: bool) -> StreamReader:
        """Reads on from `seq`; `wake` is called whenever something has come, or the reading has ended.

        `is_told` is whether `look` will be called when there is news; else the broker is asked often.
        """
        return StreamReader(self, stream, seq, wake, QUIET_SECONDS if is_told else POLL_SECONDS)

    async def read_all(self, stream: str, first: int, last: int) -> AsyncIterator[Message]:
        """The messages from `first` to `last`, every one of them. Raises BrokerUnavailable when one is not there."""
        for start in range(first, last + 1, AT_ONCE):
            for message in await self.find_each(stream, range(start, min(start + AT_ONCE, last + 1))):
                if message is None:
                    raise BrokerUnavailable("messages were taken away from the broker while they were read")
                yield message

    async def find_each(self, stream: str, seqs: range) -> list[Message | None]:
        """All of them asked for at once."""
        return await asyncio.gather(*(self.find(stream, seq) for seq in seqs))

    async def _create(self, config: dict[str, Any]) -> None:
        try:
            await self.bounds(config["name"])
        except StreamMissing:
            await self._ask(f"STREAM.CREATE.{config['name']}", config)

    async def _find(self, stream: str, **which: Any) -> Message | None:
        with self._connection.translating(self.name):
            try:
                raw = await self._js.get_msg(stream, **which)
            except nats.js.errors.NotFoundError as error:
                if error.err_code != _NO_MESSAGE:
                    raise
                return None
        return message_of(raw.data or b"", raw.seq or 0, raw.headers)

    async def _ask(self, call: str, body: dict[str, Any]) -> Any:
        with self._connection.translating(self.name):
            client, question = self._connection.client, json.dumps(body).encode()
            answer = await client.request(f"{self._api}.{call}", question, ANSWER_SECONDS)
            parsed = json.loads(answer.data)
            if "error" in parsed:
                raise nats.js.errors.APIError.from_error(parsed["error"])
        return parsed


class StreamReader:
    """The messages of a stream, in order, asked for one by one and only as fast as they are taken. `stop` it.

    What reads leaves nothing at the broker, and may make nothing there: a consumer would send what it reads to any
    subject that its maker names (docs/decisions/0044).
    """

    def __init__(self, streams: Streams, stream: str, seq: int, wake: Callable[[], None], quiet_seconds: float) -> None:
        """Use `Streams.read`."""
        self._streams = streams
        self._stream = stream
        self._next = seq
        self._wake = wake
        self._quiet_seconds = quiet_seconds
        self._arrived: deque[Message] = deque()
        self._is_taken = asyncio.Event()
        self._has_news = asyncio.Event()
        self._ended: BrokerUnavailable | BrokerRefused | None = None
        self._is_stopped = False
        """A cancellation can get lost in the client (tasks.py)."""
        self._running = asyncio.create_task(self._run())

    def look(self) -> None:
        """There may be more: ask now, and soon again."""
        self._has_news.set()

    def take(self) -> Message | None:
        """The next message, None when none has come. Raises BrokerUnavailable, BrokerRefused."""
        message = self.pop()
        if message is None and self._ended is not None:
            raise self._ended
        return message

    def pop(self) -> Message | None:
        """The next message, if one has come. Says nothing of the broker: `take` does."""
        if not self._arrived:
            return None
        self._is_taken.set()
        return self._arrived.popleft()

    @property
    def has_ended(self) -> bool:
        return self._ended is not None

    async def stop(self) -> None:
        self._is_stopped = True
        await tasks.end(self._running)

    async def _run(self) -> None:
        try:
            await self._follow()
        except StreamMissing as error:
            self._ended = BrokerUnavailable(f"the reading has ended: {error}")
        except (BrokerUnavailable, BrokerRefused) as error:
            self._ended = error
        self._wake()

    async def _follow(self) -> None:
        created, pause = "", self._quiet_seconds
        while not self._is_stopped:
            bounds = await self._streams.bounds(self._stream)
            created = created or bounds.created
            if bounds.created != created or bounds.last < self._next - 1:
                raise BrokerUnavailable("the stream at the broker was made anew")
            if bounds.last >= self._next:
                await self._fetch(bounds)
                pause = FIRST_PAUSE_SECONDS
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._has_news.wait()
            # Whoever subscribes may hear of a message before the stream has it.
            pause = FIRST_PAUSE_SECONDS if self._has_news.is_set() else min(pause * 2, self._quiet_seconds)
            self._has_news.clear()

    async def _fetch(self, bounds: Bounds) -> None:
        """What is there from the next one on, but for those that were taken away."""
        self._next = max(self._next, bounds.first)
        while self._next <= bounds.last and not self._is_stopped:
            until = min(self._next + AT_ONCE, bounds.last + 1)
            found = await self._streams.find_each(self._stream, range(self._next, until))
            self._next = until
            self._arrived.extend(message for message in found if message is not None)
            self._wake()
            while len(self._arrived) >= AT_ONCE and not self._is_stopped:
                self._is_taken.clear()
                await self._is_taken.wait()


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers of the first and the last message of a stream; the first is behind the last when it has none."""

    first: int
    last: int
    idle_seconds: float
    """How long ago the last one came, by the broker's clock."""
    created: str = ""
    """When the stream was made, which tells it from a later one of its name."""


def _seconds(text: str) -> float:
    """A time of the broker, which has nanoseconds, in seconds since the epoch."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
