"""Junk at the broker, from whoever may write there: what is no message at all, and what once was one, elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

PAUSE_SECONDS = 0.02
HEADERS: tuple[dict[str, str] | None, ...] = (
    None,
    {"Keywright-Pepper-Check": "another-pepper"},
    {"Keywright-Deployment": "another-deployment"},
    {"Keywright-Pepper-Check": "\u00e9" * 200, "Keywright-Deployment": " "},
)


class Junk:
    """Is sent from now on until `stop`, as a seed has it."""

    def __init__(self, url: str, prefix: str, seed: int) -> None:
        self._url = url
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._streams = (f"{prefix}-changes", f"{prefix}-snapshots")
        self._heartbeats = f"{prefix}.heartbeat"
        self._subjects = (
            self._heartbeats,
            *(f"{prefix}.{name}" for name in ("changes", "snapshots.page", "snapshots.end", "reports")),
        )
        self._heard: list[Msg] = []
        self._consumers: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more. What the broker was told to send goes on until `remove`."""
        self._over.set()
        self._thread.join()

    def remove(self) -> None:
        """Take back what the broker was told to send by itself; it must be there."""
        if self._consumers:
            asyncio.run(self._remove())

    async def _remove(self) -> None:
        client = await nats.connect(self._url)
        try:
            js: Any = client.jetstream(timeout=5)
            for stream, name in self._consumers:
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await js.delete_consumer(stream, name)
        finally:
            await client.close()

    async def _run(self) -> None:
        while not self._over.is_set():
            # The broker may be stopped or killed at the same time.
            with contextlib.suppress(OSError, nats.errors.Error):
                client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=1, error_cb=_ignore)
                try:
                    await client.subscribe(self._heartbeats, cb=self._hear)
                    while not self._over.is_set():
                        await self._send(client)
                        await asyncio.sleep(PAUSE_SECONDS * self._dice.random())
                finally:
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(1):
                            await client.close()
            await asyncio.sleep(0.05)

    async def _hear(self, message: Msg) -> None:
        self._heard.append(message)

    async def _send(self, client: Client) -> None:
        subject = self._dice.choice(self._subjects)
        kind = self._dice.random()
        if kind < 0.15:
            await self._have_sent(client, subject)
            return
        data, headers = self._dice.randbytes(self._dice.choice((0, 1, 40, 5000))), self._dice.choice(HEADERS)
        found = await self._find_authentic(client) if kind < 0.7 else None
        if found is not None:
            data, headers = found
            if self._dice.random() < 0.4:
                data = self._spoil(data)
        reply = self._dice.choice(("", self._heartbeats, self._subjects[1]))
        await client.publish(subject, data, reply=reply, headers=headers)

    async def _find_authentic(self, client: Client) -> tuple[bytes, dict[str, str] | None] | None:
        """A frame of the origin, of a stream or of its heartbeats, old or new."""
        if self._heard and self._dice.random() < 0.3:
            message = self._dice.choice(self._heard)
            return message.data, _copied(message.headers)
        with contextlib.suppress(nats.js.errors.Error, nats.errors.Error, TimeoutError):
            js: Any = client.jetstream(timeout=0.5)
            stream = self._dice.choice(self._streams)
            state = (await js.stream_info(stream)).state
            if state.messages:
                raw = await js.get_msg(stream, self._dice.randint(state.first_seq, state.last_seq))
                return raw.data or b"", _copied(raw.headers)
        return None

    def _spoil(self, data: bytes) -> bytes:
        if not data or self._dice.random() < 0.3:
            return data + data
        place = self._dice.randrange(len(data))
        return data[:place] + (b"" if self._dice.random() < 0.5 else bytes([data[place] ^ 0x20]) + data[place + 1 :])

    async def _have_sent(self, client: Client, subject: str) -> None:
        """Old frames, by the broker itself: by a consumer that delivers where nobody asked for it."""
        name = f"junk-{self._dice.randrange(2**32):08x}"
        stream = self._dice.choice(self._streams)
        config = {
            "name": name, "deliver_subject": subject, "deliver_policy": "all", "ack_policy": "none",
            "inactive_threshold": 1_000_000_000, "mem_storage": True,
        }  # fmt: skip
        body = json.dumps({"stream_name": stream, "config": config}).encode()
        self._consumers.append((stream, name))
        # On the subject of the same stream it would feed itself without end, which the broker refuses.
        await client.publish(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body, reply=client.new_inbox())


def _copied(headers: Any) -> dict[str, str] | None:
    kept = {name: str(value) for name, value in (headers or {}).items() if not name.startswith("Nats-")}
    return {name: value for name, value in kept.items() if value.isascii()} or None


async def _ignore(_: Exception) -> None:
    """What the broker refuses is no news."""
