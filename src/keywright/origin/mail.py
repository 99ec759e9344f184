"""Owns mail: handing a message to an SMTP server, or printing it where none is configured."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import unquote, urlsplit

from keywright.domain.keyformat import Secret

log = logging.getLogger("keywright.mail")

TIMEOUT_SECONDS = 15
MOST_AT_ONCE = 8
PORTS = {"smtp": 587, "smtps": 465}


class MailNotSent(Exception):
    """The SMTP server can't be reached or refuses the message."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """`smtps://` speaks TLS from the start; `smtp://` changes to it (STARTTLS), but on this machine may stay plain."""

    host: str
    port: int
    is_tls: bool
    is_local: bool
    user: str | None
    password: Secret | None

    @classmethod
    def of(cls, url: str) -> SmtpServer:
        """From smtp(s)://user:password@host:port. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("must look like smtps://user:password@smtp.example.com:465")
        return cls(
            parts.hostname,
            parts.port or PORTS[parts.scheme],
            parts.scheme == "smtps",
            parts.hostname in {"localhost", "127.0.0.1", "::1"},
            unquote(parts.username) if parts.username else None,
            Secret(unquote(parts.password)) if parts.password else None,
        )


class Mailer:
    """Sends from one address. Without a server it prints, so that signing in works before there is one."""

    def __init__(self, server: SmtpServer | None, sender: str) -> None:
        self.server = server
        self._sender = sender
        # Its own threads: a mail server that keeps us waiting must not hold up pages, which are made in others.
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="mail")

    @property
    def has_server(self) -> bool:
        return self.server is not None

    async def send(self, *, to: str, subject: str, text: str, sender_name: str) -> None:
        """Raises MailNotSent, and ValueError for an address that mail can't be sent to."""
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(sender_name, addr_spec=self._sender)
        message["To"] = _address(to)
        message["Subject"] = subject
        # RFC 3834: no out-of-office note in answer.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        if self.server is None:
            sys.stdout.write(f"\nMail to {to}: {subject}\n\n{text}\n")
            sys.stdout.flush()
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, _deliver, self.server, message)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail could not be sent by way of %s: %s", self.server.host, type(error).__name__)
            raise MailNotSent from None


def _address(text: str) -> Address:
    try:
        address = Address(addr_spec=text)
    except (MessageError, IndexError):
        # What the parser raises for some of what it can't read.
        raise ValueError("is not an e-mail address") from None
    if address.addr_spec != text:
        # A comment or quotes would be dropped: what is meant for one user would go to another's mailbox.
        raise ValueError("is not an e-mail address")
    return address


def _deliver(server: SmtpServer, message: EmailMessage) -> None:
    context = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=context)
        if server.is_tls
        else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
    ) as connection:
        connection.ehlo()
        # A link that signs somebody in does not go over a wire that others read.
        if not server.is_tls and (not server.is_local or connection.has_extn("starttls")):
            connection.starttls(context=context)
            connection.ehlo()
        if server.user is not None:
            connection.login(server.user, server.password.reveal() if server.password else "")
        connection.send_message(message)
