"""A real SMTP server for tests, and what it was handed."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from support.ports import free_port


@dataclass
class Mailbox:
    """`refuses` has the server turn every message away."""

    url: str = ""
    refuses: bool = False
    messages: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuses:
            return "451 try again later"
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        return [message for message in self.messages if message["To"] == address]

    async def link_for(self, address: str, count: int = 1) -> str:
        """The link in the newest message to this address, once there are that many."""
        async with asyncio.timeout(30):
            while len(self.to(address)) < count:
                await asyncio.sleep(0.01)
        found = re.search(r"https?://\S+", self.to(address)[-1].get_content())
        assert found
        return found[0]


@contextmanager
def running() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    mailbox.url = f"smtp://127.0.0.1:{controller.port}"
    try:
        yield mailbox
    finally:
        controller.stop()
