"""Owns the connection to a NATS broker: how it is made, what is kept there under which names, what its refusals mean.

Two streams hold the feed. `PREFIX-changes` has the changes in order; each message is put there only behind the one
that its writer read last, so it makes no difference how many write. `PREFIX-snapshots` has snapshots: pages, then an
end, unbroken, because these messages, too, are put behind one another or not at all. Heartbeats are said, not kept.

A connection is not mended. Whoever uses it gives it up after any failure and makes a new one, so that there is one
place for each side that decides how soon to try again. What messages mean is known in origin/feed/nats_publisher.py and
edge/sync/nats_feed.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import api

import nats
from keywright import __version__
from keywright.domain.keyformat import Secret
from keywright.protocol.frames import Frame, FrameError, FrameSigner, FrameSplitter

if TYPE_CHECKING:
    from nats.aio.msg import Msg

EVERYTHING = "everything"
"""The scope of every frame at a broker."""
# A frame at a broker answers no request; its nonce says what it is for. A request's nonce never has a colon.
FOR_CHANGES, FOR_HEARTBEATS, FOR_SNAPSHOT = "broker:changes", "broker:heartbeat", "broker:snapshot:"

PEPPER_HEADER = "Keywright-Pepper-Check"
ANSWER_SECONDS = 3
CONNECT_SECONDS = 5
PULSE_SECONDS = 1.0
"""How often the broker tells a reader that it is there, when it has nothing else to tell."""
SILENCE_SECONDS = 3.0
"""A reader that has heard nothing of the broker for this long reads from nothing."""
_PULL_SECONDS = 30.0
_PULL_MESSAGES = 256
_PULL_BYTES = 4 * 1024 * 1024
_READER_KEPT_SECONDS = 30.0
_STREAM_MISSING, _NOT_LAST, _NO_MESSAGE = 10059, 10071, 10037


class BrokerUnavailable(Exception):
    """The broker, or its JetStream, can't be reached or is busy; asking again may help."""


class BrokerRefused(Exception):
    """The broker is there and will not have this: a person must change something."""


class StreamMissing(BrokerRefused):
    """The broker has no such stream."""


class NotLast(Exception):
    """Another message stands behind the one that this one was to follow."""


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach the broker, and what the deployment's things are called there.

    `domain` is the JetStream domain that holds the streams, "" for that of the server itself. `mirrors` are the domains
    of mirrors of them.
    """

    servers: tuple[str, ...]
    credentials: Path | None = None
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    domain: str = ""
    mirrors: tuple[str, ...] = ()
    prefix: str = "keywright"
    replicas: int = 1

    @property
    def changes(self) -> str:
        return f"{self.prefix}-changes"

    @property
    def snapshots(self) -> str:
        return f"{self.prefix}-snapshots"

    @property
    def change_subject(self) -> str:
        return f"{self.prefix}.changes"

    @property
    def page_subject(self) -> str:
        return f"{self.prefix}.snapshots.page"

    @property
    def end_subject(self) -> str:
        return f"{self.prefix}.snapshots.end"

    @property
    def heartbeat_subject(self) -> str:
        return f"{self.prefix}.heartbeat"

    @property
    def report_subject(self) -> str:
        return f"{self.prefix}.reports"


@dataclass(frozen=True, slots=True)
class Message:
    """What was sent, its place in its stream (0: in none), and the pepper that its sender says it has."""

    data: bytes = field(repr=False)
    place: int = 0
    pepper_check: str | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The places of the first and the last message of a stream; the first is behind the last when it has none."""

    first: int
    last: int
    idle_seconds: float
    """How long ago the last one came, by the broker's clock."""


class Broker:
    """One connection. `close` it; after a failure it is of no more use."""

    def __init__(self, client: Client, options: BrokerOptions, complaints: list[str]) -> None:
        """Use `connect`."""
        self.options = options
        self._client = client
        self._complaints = complaints

    def store(self, domain: str | None = None) -> Store:
        """The streams of a domain: of the one that the options name, or of a mirror."""
        domain = self.options.domain if domain is None else domain
        return Store(self._client, domain, self._complaints)

    async def say(self, subject: str, data: bytes, pepper_check: str) -> None:
        """To whoever listens now. Raises BrokerUnavailable."""
        with _translating(self._complaints, "the broker"):
            await self._client.publish(subject, data, headers={PEPPER_HEADER: pepper_check})
            await self._client.flush(timeout=ANSWER_SECONDS)

    async def listen(self, subject: str, take: Callable[[Message], None]) -> None:
        """Have `take` called with everything that is said from now on. Raises BrokerUnavailable, BrokerRefused."""

        async def hear(message: Msg) -> None:
            take(_message(message.data, 0, message.headers))

        await self._subscribe(subject, hear)

    async def ask(self, subject: str, data: bytes) -> bytes:
        """What one of those who answer there says. Raises BrokerUnavailable, BrokerRefused."""
        with _translating(self._complaints, "the broker"):
            answer = await self._client.request(subject, data, ANSWER_SECONDS)
        return answer.data

    async def answer(self, subject: str, take: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        """Answer what is asked there, together with all others who do: each question gets to one of them.

        None is no answer. Raises BrokerUnavailable, BrokerRefused.
        """

        async def hear(message: Msg) -> None:
            told = await take(message.data)
            if told is not None and message.reply:
                with contextlib.suppress(nats.errors.Error):
                    await message.respond(told)

        await self._subscribe(subject, hear, queue=subject)

    async def close(self) -> None:
        # A line that takes nothing any more must not hold up whoever has given it up.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await self._client.close()

    async def _subscribe(self, subject: str, hear: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> None:
        with _translating(self._complaints, "the broker"):
            await self._client.subscribe(subject, queue=queue, cb=hear)
            # The answer to it comes behind a refusal of what was asked before.
            await self._client.flush(timeout=ANSWER_SECONDS)
        if self._complaints:
            raise BrokerRefused(f"the broker refuses: {self._complaints[-1]}")


class Store:
    """The streams of one JetStream domain."""

    def __init__(self, client: Client, domain: str, complaints: list[str]) -> None:
        self.name = f"the broker's domain {domain}" if domain else "the broker"
        self._client = client
        self._prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self._complaints = complaints
        self._js = client.jetstream(timeout=ANSWER_SECONDS, domain=domain or None)

    async def bounds(self, stream: str) -> Bounds:
        """Raises StreamMissing, BrokerUnavailable, BrokerRefused."""
        answer = await self._ask(f"STREAM.INFO.{stream}", {})
        state, now = answer["state"], answer.get("ts", "")
        idle = _seconds(now) - _seconds(state["last_ts"]) if state["messages"] and now else 0.0
        return Bounds(state["first_seq"], state["last_seq"], max(0.0, idle))

    async def make(self, stream: str, subjects: list[str], replicas: int) -> None:
        """Make a stream, or leave it as it is."""
        config = {"retention": "limits", "storage": "file", "discard": "new", "num_replicas": replicas}
        await self._make({**config, "name": stream, "subjects": subjects, "max_consumers": -1})

    async def make_mirror(self, stream: str, domain: str) -> None:
        """Make a mirror here of a stream in another domain, or leave it as it is."""
        source = {"name": stream, "external": {"api": f"$JS.{domain}.API", "deliver": ""}}
        await self._make({"name": stream, "retention": "limits", "storage": "file", "mirror": source})

    async def delete(self, stream: str) -> None:
        await self._ask(f"STREAM.DELETE.{stream}", {})

    async def purge(self, stream: str, before: int) -> None:
        """Take away every message before a place."""
        await self._ask(f"STREAM.PURGE.{stream}", {"seq": before})

    async def find(self, stream: str, place: int) -> Message | None:
        """The message at a place, None when it is not kept."""
        # An empty stream's last place is 0, which is no place to ask for.
        return await self._find(stream, seq=place) if place > 0 else None

    async def find_last(self, stream: str, subject: str) -> Message | None:
        """The last message of a subject, None when there is none."""
        return await self._find(stream, subject=subject)

    async def bisect(self, stream: str, bounds: Bounds, is_behind: Callable[[Message], bool]) -> int:
        """The place of the first message within bounds that is behind what is looked for; after the last if none is."""
        low, high = bounds.first, bounds.last + 1
        while low < high:
            middle = (low + high) // 2
            message = await self.find(stream, middle)
            if message is not None and is_behind(message):
                high = middle
            else:
                low = middle + 1
        return low

    async def put(self, subject: str, data: bytes, pepper_check: str, *, after: int, name: str) -> int:
        """Keep a message directly behind the one at the place `after`; its own place. Raises NotLast.

        `name` and place are its id for the broker: one that is sent twice is kept once.
        """
        headers = {
            "Nats-Expected-Last-Sequence": str(after),
            "Nats-Msg-Id": f"{after}/{name}",
            PEPPER_HEADER: pepper_check,
        }
        with _translating(self._complaints, self.name):
            answer = await self._js.publish(subject, data, headers=headers)
        return answer.seq

    async def read(self, stream: str, place: int, ring: Callable[[], None]) -> Reading:
        """Read on from a place; `ring` is called whenever something has come."""
        config = api.ConsumerConfig(
            # A name of its own makes it one that a permission can be for.
            name=f"reader-{secrets.token_hex(8)}",
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=place,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=_READER_KEPT_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        with _translating(self._complaints, self.name):
            consumer = await self._js.add_consumer(stream, config)
        reading = Reading(self._client, f"{self._prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer.name}", ring)
        with _translating(self._complaints, self.name):
            await reading.start()
        return reading

    async def _make(self, config: dict[str, Any]) -> None:
        try:
            await self.bounds(config["name"])
        except StreamMissing:
            await self._ask(f"STREAM.CREATE.{config['name']}", config)

    async def _find(self, stream: str, **place: Any) -> Message | None:
        with _translating(self._complaints, self.name):
            try:
                raw = await self._js.get_msg(stream, **place)
            except nats.js.errors.NotFoundError as error:
                if error.err_code != _NO_MESSAGE:
                    raise
                return None
        return _message(raw.data or b"", raw.seq or 0, raw.headers)

    async def _ask(self, call: str, body: dict[str, Any]) -> Any:
        with _translating(self._complaints, self.name):
            answer = await self._client.request(f"{self._prefix}.{call}", json.dumps(body).encode(), ANSWER_SECONDS)
            parsed = json.loads(answer.data)
            if "error" in parsed:
                raise nats.js.errors.APIError.from_error(parsed["error"])
        return parsed


class Reading:
    """The messages of a stream, in order, asked for only as fast as they are taken."""

    def __init__(self, client: Client, subject: str, ring: Callable[[], None]) -> None:
        self._client = client
        self._subject = subject
        self._ring = ring
        self._arrived: deque[Message] = deque()
        self._is_asked = False
        self._left = 0
        self._ended = ""
        self._heard_at = time.monotonic()
        self._inbox = client.new_inbox()
        self._subscription: Any = None

    async def start(self) -> None:
        self._subscription = await self._client.subscribe(self._inbox, cb=self._hear)
        await self._pull()

    async def take(self) -> Message | None:
        """The next message, None when none has come. Raises BrokerUnavailable."""
        if not self._arrived and not self._is_asked and not self._ended:
            await self._pull()
        if self._arrived:
            return self._arrived.popleft()
        if self._ended or self._client.is_closed:
            raise BrokerUnavailable(self._ended or "the connection to the broker broke off")
        if time.monotonic() - self._heard_at > SILENCE_SECONDS:
            raise BrokerUnavailable(f"nothing was heard of the broker for {SILENCE_SECONDS:g} s")
        return None

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
        self._heard_at = time.monotonic()
        with contextlib.suppress(nats.errors.ConnectionClosedError):
            await self._client.publish(self._subject, json.dumps(question).encode(), reply=self._inbox)

    async def _hear(self, message: Msg) -> None:
        self._heard_at = time.monotonic()
        told = message.headers or {}
        status, description = told.get("Status"), told.get("Description", "")
        is_complete = description == "Batch Completed"
        if status == "100" or (is_complete and told.get("Nats-Pending-Messages") == "0"):
            # An idle heartbeat; or that as many messages were sent as were asked for, which was counted here.
            return
        if status is None:
            place = message.metadata.sequence.stream
            self._arrived.append(_message(message.data, place, message.headers))
            self._left -= 1
        elif status != "408" and not is_complete and "MaxBytes" not in description:
            # Neither its time nor its bytes are up: the reader is gone, with its stream or its server.
            self._ended = f"the broker ended the reading: {description or status}"
        if status is not None or self._left == 0:
            # What was asked for has been answered. With nothing waiting here, more is asked for at once.
            self._is_asked = False
            if not self._arrived and not self._ended:
                await self._pull()
        self._ring()


async def connect(options: BrokerOptions, name: str, on_closed: Callable[[], None] = lambda: None) -> Broker:
    """A new connection. `on_closed` is called when it ends. Raises BrokerUnavailable, BrokerRefused."""
    complaints: list[str] = []
    failures: list[Exception] = []

    async def complain(error: Exception) -> None:
        # Permissions are told of in passing; what was asked for just gets no answer.
        if "permissions violation" in str(error).lower():
            complaints.append(str(error).removeprefix("nats: "))
        failures[:] = [error]

    async def closed() -> None:
        on_closed()

    wrapped = {"password": options.password, "token": options.token}
    shown: Any = {kind: secret.reveal() for kind, secret in wrapped.items() if secret is not None}
    with _translating(complaints, "the broker"):
        for needed in (options.credentials, options.ca_file, options.certificate_file, options.key_file):
            if needed is not None:
                # The client would connect without what it can't read, and be refused for another reason.
                needed.read_bytes()
        try:
            client = await nats.connect(
                servers=list(options.servers),
                name=f"keywright/{__version__} {name}",
                error_cb=complain,
                closed_cb=closed,
                allow_reconnect=False,
                connect_timeout=CONNECT_SECONDS,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=5,
                tls=_tls(options),
                user_credentials=None if options.credentials is None else str(options.credentials),
                user=options.user,
                **shown,
            )
        except nats.errors.NoServersError:
            # It stands for what the last server said.
            raise (failures or [BrokerUnavailable("no server of the broker can be reached")])[-1] from None
    return Broker(client, options, complaints)


def frame_in(message: Message, signer: FrameSigner, purpose: str) -> Frame:
    """The one frame that a message is, made for what its subject is for. Raises FrameError."""
    splitter = FrameSplitter()
    frames = list(splitter.feed(message.data))
    if len(frames) != 1 or not splitter.is_empty:
        raise FrameError("the message is not one frame")
    frame = signer.decode(frames[0])
    if not frame.nonce.startswith(purpose) or frame.scope != EVERYTHING:
        raise FrameError("the frame was made for something else")
    return frame


async def pages(store: Store, stream: str, first: int, last: int) -> AsyncIterator[Message]:
    """The messages from one place to another, every one of them. Raises BrokerUnavailable when one does not come."""
    arrived = asyncio.Event()
    reading = await store.read(stream, first, arrived.set)
    try:
        for place in range(first, last + 1):
            while (message := await reading.take()) is None:
                arrived.clear()
                try:
                    async with asyncio.timeout(_PULL_SECONDS):
                        await arrived.wait()
                except TimeoutError:
                    raise BrokerUnavailable("the broker does not give what it says that it has") from None
            if message.place != place:
                raise BrokerUnavailable("the snapshot was taken away while it was read")
            yield message
    finally:
        await reading.stop()


def _tls(options: BrokerOptions) -> ssl.SSLContext | None:
    is_wanted = any(server.startswith("tls://") for server in options.servers)
    if not is_wanted and options.ca_file is None and options.certificate_file is None:
        return None
    context = ssl.create_default_context(cafile=options.ca_file)
    if options.certificate_file is not None:
        context.load_cert_chain(options.certificate_file, options.key_file)
    return context


@contextmanager
def _translating(complaints: list[str], whom: str) -> Iterator[None]:
    """Turn what the client raises into the failures that callers tell apart."""
    try:
        yield
    except nats.js.errors.APIError as error:
        if error.err_code == _NOT_LAST:
            raise NotLast from error
        if error.err_code == _STREAM_MISSING:
            raise StreamMissing(
                f"{whom} has no stream of this deployment (was `serve --nats` ever started?)"
            ) from error
        if isinstance(error, nats.js.errors.BadRequestError):
            raise BrokerRefused(f"{whom} refuses: {error.description}") from error
        raise BrokerUnavailable(f"{whom} can't do it now: {error.description or type(error).__name__}") from error
    except (nats.js.errors.NoStreamResponseError, nats.errors.NoRespondersError) as error:
        raise BrokerUnavailable(f"{whom} can't be reached, or has no JetStream") from error
    except nats.errors.Error as error:
        text = str(error)
        if complaints:
            raise BrokerRefused(f"the broker refuses: {complaints[-1]}") from error
        if isinstance(error, nats.errors.AuthorizationError) or "authorization" in text.lower():
            raise BrokerRefused("the broker refuses the credentials") from error
        raise BrokerUnavailable(f"{type(error).__name__}: {text}".rstrip(": ")) from error
    except (OSError, TimeoutError, ValueError) as error:
        # ssl.SSLError is an OSError; a missing credentials file is one, too, and names itself.
        if isinstance(error, (FileNotFoundError, PermissionError, ssl.SSLCertVerificationError, ValueError)):
            raise BrokerRefused(f"can't connect to the broker: {error}") from error
        raise BrokerUnavailable(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _message(data: bytes, place: int, headers: Any) -> Message:
    return Message(data, place, (headers or {}).get(PEPPER_HEADER))


def _seconds(text: str) -> float:
    """A time of the broker, which has nanoseconds, in seconds since the epoch."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
