"""Owns the connection to a NATS broker: how it is made, what is said over it, and what the broker's refusals mean.

A connection is not mended. Whoever uses it gives it up after any failure and makes a new one, so that there is one
place for each side that decides how soon to try again. What is kept at the broker is in streams.py, under which names
in subjects.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from keywright import __version__
from keywright.nats.subjects import Subjects

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from keywright.runtime.clock import Clock
    from keywright.runtime.nats_options import NatsOptions

PEPPER_HEADER, DEPLOYMENT_HEADER = "Keywright-Pepper-Check", "Keywright-Deployment"
ANSWER_SECONDS = 3
CONNECT_SECONDS = 5
_STREAM_MISSING, _NOT_LAST = 10059, 10071


class Connection:
    """One connection. `close` it; after a failure it is of no more use."""

    def __init__(self, client: Client, options: NatsOptions, clock: Clock, complaints: list[str]) -> None:
        """Use `connect`. `client` is for streams.py alone."""
        self.client = client
        self.options = options
        self.subjects = Subjects(options.prefix)
        self.clock = clock
        self._complaints = complaints

    @property
    def has_complaints(self) -> bool:
        """Whether the broker refused something over it, which is told of whatever is asked next."""
        return bool(self._complaints)

    async def publish(self, subject: str, data: bytes, pepper_check: str) -> None:
        """To whoever is subscribed now. Raises BrokerUnavailable."""
        with self.translating():
            await self.client.publish(subject, data, headers={PEPPER_HEADER: pepper_check})
            await self.client.flush(timeout=ANSWER_SECONDS)

    async def subscribe(self, subject: str, take: Callable[[Message], None]) -> None:
        """Have `take` called with all that is published there from now on. Raises BrokerUnavailable, BrokerRefused."""

        async def on_message(message: Msg) -> None:
            take(message_of(message.data, 0, message.headers))

        await self._subscribe(subject, on_message)

    async def try_to_subscribe(self, subject: str, take: Callable[[Message], None]) -> bool:
        """As `subscribe`, where we may; whether we may. Raises BrokerUnavailable."""
        try:
            await self.subscribe(subject, take)
        except BrokerRefused:
            # It explains nothing that goes wrong later.
            self._complaints.clear()
            return False
        return True

    async def request(self, subject: str, data: bytes) -> bytes:
        """The reply of one of those who reply there. Raises BrokerUnavailable, BrokerRefused."""
        with self.translating():
            reply = await self.client.request(subject, data, ANSWER_SECONDS)
        return reply.data

    async def reply(self, subject: str, answer: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        """Answer requests there, together with all others who do: each request gets to one of them.

        None is no reply. Raises BrokerUnavailable, BrokerRefused.
        """

        async def on_request(message: Msg) -> None:
            await _reply_to(message, answer)

        await self._subscribe(subject, on_request, queue=subject)

    async def try_to_reply(self, subject: str, answer: Callable[[bytes], Awaitable[bytes | None]]) -> bool:
        """As `reply`, where we may, and to many at once; whether we may. Raises BrokerUnavailable."""
        running: set[asyncio.Task[None]] = set()

        async def on_request(message: Msg) -> None:
            task = asyncio.create_task(_reply_to(message, answer))
            running.add(task)
            task.add_done_callback(running.discard)

        try:
            await self._subscribe(subject, on_request, queue=subject)
        except BrokerRefused:
            # It explains nothing that goes wrong later.
            self._complaints.clear()
            return False
        return True

    async def close(self) -> None:
        await _close(self.client)

    def translating(self, whom: str = "the broker") -> contextlib.AbstractContextManager[None]:
        """Turns what the client raises inside it into this module's exceptions."""
        return _translating(self._complaints, whom)

    async def _subscribe(self, subject: str, on_message: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> None:
        with self.translating():
            await self.client.subscribe(subject, queue=queue, cb=on_message)
            # The answer to it comes behind a refusal of what was asked before.
            await self.client.flush(timeout=ANSWER_SECONDS)
        if self._complaints:
            raise BrokerRefused(f"the broker refuses: {self._complaints[-1]}")


async def connect(
    options: NatsOptions, name: str, clock: Clock, on_closed: Callable[[], None] = lambda: None
) -> Connection:
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
        settings: dict[str, Any] = {
            "name": f"keywright/{__version__} {name}",
            "error_cb": complain,
            "closed_cb": closed,
            "allow_reconnect": False,
            "connect_timeout": CONNECT_SECONDS,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "ping_interval": 5,
            "tls": _tls(options),
            "user_credentials": None if options.credentials is None else str(options.credentials),
            "user": options.user,
        }
        failure: Exception | None = None
        # One by one: a client that is given several leaves the line to each that answers nothing open, and with
        # `allow_reconnect` off asks no other once one has taken the connection.
        for server in random.sample(options.servers, len(options.servers)):
            try:
                client = await _connect_to(server, settings | shown)
            except nats.errors.NoServersError:
                # It stands for what the server said.
                failure = failures[-1] if failures else BrokerUnavailable("no server of the broker can be reached")
            except Exception as error:  # noqa: BLE001
                failure = error
            else:
                return Connection(client, options, clock, complaints)
        raise failure or BrokerUnavailable("no server of the broker is named")
    raise AssertionError("there is a connection, or a failure")


async def _connect_to(server: str, settings: dict[str, Any]) -> Client:
    client = Client()
    try:
        await client.connect(server, **settings)
    except BaseException:
        # Nor does it close the line when it fails, or when who waits for it is cancelled.
        await _close(client)
        raise
    return client


async def _reply_to(message: Msg, answer: Callable[[bytes], Awaitable[bytes | None]]) -> None:
    reply = await answer(message.data)
    if reply is not None and message.reply:
        with contextlib.suppress(nats.errors.Error):
            await message.respond(reply)


async def _close(client: Client) -> None:
    # A line that takes nothing any more must not hold up whoever has given it up.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1):
            await client.close()
    if client._transport is not None:
        # One that was held up, or that never got as far as a connection, closes nothing.
        client._transport.close()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Message:
    """What was sent, its sequence number in its stream (0: in none), and who its sender says it is."""

    data: bytes = field(repr=False)
    seq: int = 0
    pepper_check: str | None = None
    deployment_id: str | None = None
    """None where an older version wrote it, or nobody of ours."""


def message_of(data: bytes, seq: int, headers: Any) -> Message:
    told = headers or {}
    return Message(data, seq, told.get(PEPPER_HEADER), told.get(DEPLOYMENT_HEADER))


class BrokerUnavailable(Exception):
    """The broker, or its JetStream, can't be reached or is busy; asking again may help."""


class NobodyAnswers(BrokerUnavailable):
    """Nobody is there for what was asked: a JetStream that is away, or a name that this account was not given."""


class BrokerRefused(Exception):
    """The broker is there and will not have this: a person must change something."""


class OtherDeployment(BrokerRefused):
    """The stream under this prefix is another deployment's."""


class StreamMissing(BrokerRefused):
    """The broker has no such stream."""


class NotLast(Exception):
    """Another message stands behind the one that this one was to follow."""


def _tls(options: NatsOptions) -> ssl.SSLContext | None:
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
        raise NobodyAnswers(f"{whom} can't be reached, or has no JetStream") from error
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
