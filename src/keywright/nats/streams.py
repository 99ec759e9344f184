"""Owns what a broker keeps: JetStream's streams, how messages are put into them, found, and read in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from nats.js import api

from keywright.nats.connection import (
    ANSWER_SECONDS,
    DEPLOYMENT_HEADER,
    PEPPER_HEADER,
    BrokerUnavailable,
    StreamMissing,
    message_of,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from keywright.nats.connection import Connection, Message

PULSE_SECONDS = 1.0
"""How often the broker tells a reader that it is there, when it has nothing else to tell."""
SILENCE_SECONDS = 3.0
"""A reader that has heard nothing of the broker for this long reads from nothing."""
_PULL_SECONDS = 30.0
_PULL_MESSAGES = 256
_PULL_BYTES = 4 * 1024 * 1024
READER_KEPT_SECONDS = 30.0
"""For how long the broker keeps a reader that asks for nothing, if it is not told otherwise."""
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

    async def create_mirror(self, stream: str, domain: str) -> None:
        """Creates a mirror here of a stream in another domain, or leaves it as it is."""
        source = {"name": stream, "external": {"api": f"$JS.{domain}.API", "deliver": ""}}
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

    async def read(
        self, stream: str, seq: int, wake: Callable[[], None], *, kept_seconds: float = READER_KEPT_SECONDS
    ) -> StreamReader:
        """Reads on from `seq`; `wake` is called whenever something has come, or the reading has ended.

        The broker forgets a reader that has asked for nothing in `kept_seconds`: who opens many wants few to be left.
        """
        config = api.ConsumerConfig(
            # A name of its own makes it one that a permission can be for.
            name=f"reader-{secrets.token_hex(8)}",
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=seq,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=kept_seconds,
            mem_storage=True,
            num_replicas=1,
        )
        with self._connection.translating(self.name):
            consumer = await self._js.add_consumer(stream, config)
        reader = StreamReader(self._connection, f"{self._api}.CONSUMER.MSG.NEXT.{stream}.{consumer.name}", wake)
        with self._connection.translating(self.name):
            await reader.start()
        return reader

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
    """The messages of a stream, in order, asked for only as fast as they are taken."""

    def __init__(self, connection: Connection, subject: str, wake: Callable[[], None]) -> None:
        self._client = connection.client
        self._clock = connection.clock
        self._subject = subject
        self._wake = wake
        self._arrived: deque[Message] = deque()
        self._is_asked = False
        self._left = 0
        self._ended = ""
        self._heard_at = self._clock.elapsed()
        self._inbox = self._client.new_inbox()
        self._subscription: Any = None

    async def start(self) -> None:
        self._subscription = await self._client.subscribe(self._inbox, cb=self._on_message)
        await self._pull()

    async def take(self) -> Message | None:
        """The next message, None when none has come. Raises BrokerUnavailable."""
        if not self._arrived and not self._is_asked and not self._ended:
            await self._pull()
        message = self.pop()
        if message is not None:
            return message
        if self._ended or self._client.is_closed:
            raise BrokerUnavailable(self._ended or "the connection to the broker broke off")
        if self._clock.elapsed() - self._heard_at > SILENCE_SECONDS:
            raise BrokerUnavailable(f"nothing was heard of the broker for {SILENCE_SECONDS:g} s")
        return None

    def pop(self) -> Message | None:
        """The next message, if one has come. Asks for no more and says nothing of the broker: `take` does."""
        return self._arrived.popleft() if self._arrived else None

    @property
    def has_ended(self) -> bool:
        return bool(self._ended)

    async def stop(self) -> None:
        with contextlib.suppress(nats.errors.Error):
            await self._subscription.unsubscribe()

    async def _pull(self) -> None:
        self._is_asked = True
        question = {
            "batch": _PULL_MESSAGES,
            "max_bytes": _PULL_BYTES,
            "expires": int(_PULL_SECONDS * 1e9),
            "idle_heartbeat": int(PULSE_SECONDS * 1e9),
        }
        self._left = _PULL_MESSAGES
        self._heard_at = self._clock.elapsed()
        with contextlib.suppress(nats.errors.ConnectionClosedError):
            await self._client.publish(self._subject, json.dumps(question).encode(), reply=self._inbox)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock.elapsed()
        told = message.headers or {}
        status, description = told.get("Status"), told.get("Description", "")
        is_complete = description == "Batch Completed"
        if status == "100" or (is_complete and told.get("Nats-Pending-Messages") == "0"):
            # An idle heartbeat; or that as many messages were sent as were asked for, which was counted here.
            return
        if status is None:
            seq = message.metadata.sequence.stream
            self._arrived.append(message_of(message.data, seq, message.headers))
            self._left -= 1
        elif status != "408" and not is_complete and "MaxBytes" not in description:
            # Neither its time nor its bytes are up: the reader is gone, with its stream or its server.
            self._ended = f"the broker ended the reading: {description or status}"
        if status is not None or self._left == 0:
            # What was asked for has been answered. With nothing waiting here, more is asked for at once.
            self._is_asked = False
            if not self._arrived and not self._ended:
                await self._pull()
        self._wake()


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers of the first and the last message of a stream; the first is behind the last when it has none."""

    first: int
    last: int
    idle_seconds: float
    """How long ago the last one came, by the broker's clock."""
    created: str = ""
    """When the stream was made, which tells it from a later one of its name."""


async def read_all(
    streams: Streams, stream: str, first: int, last: int, *, kept_seconds: float = READER_KEPT_SECONDS
) -> AsyncIterator[Message]:
    """The messages from `first` to `last`, every one of them. Raises BrokerUnavailable when one does not come."""
    arrived = asyncio.Event()
    reader = await streams.read(stream, first, arrived.set, kept_seconds=kept_seconds)
    try:
        for seq in range(first, last + 1):
            while (message := await reader.take()) is None:
                arrived.clear()
                try:
                    async with asyncio.timeout(_PULL_SECONDS):
                        await arrived.wait()
                except TimeoutError:
                    raise BrokerUnavailable("the broker does not give what it says that it has") from None
            if message.seq != seq:
                raise BrokerUnavailable("the snapshot was taken away while it was read")
            yield message
    finally:
        await reader.stop()


def _seconds(text: str) -> float:
    """A time of the broker, which has nanoseconds, in seconds since the epoch."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
