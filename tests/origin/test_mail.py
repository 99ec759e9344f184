"""Mail goes to a real SMTP server as it should look, or to the console."""

from __future__ import annotations

import pytest

from keywright.origin.mail import Mailer, MailNotSent, SmtpServer
from support import mailbox
from support.ports import free_port


async def send(server: SmtpServer | None, **changes: str) -> None:
    letter = {"to": "ada@example.com", "subject": "Sign in", "text": "Größe: ok\n", "sender_name": 'A "good", API'}
    await Mailer(server, "keys@example.com").send(**{**letter, **changes})


async def test_a_message_arrives_whole() -> None:
    with mailbox.running() as box:
        await send(SmtpServer.of(box.url))
    (message,) = box.messages
    assert message["From"].addresses[0].addr_spec == "keys@example.com"
    assert message["From"].addresses[0].display_name == 'A "good", API'
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().strip() == "Größe: ok"


async def test_a_server_that_is_away_or_refuses_is_told_of_without_the_address() -> None:
    with pytest.raises(MailNotSent):
        await send(SmtpServer.of(f"smtp://127.0.0.1:{free_port()}"))
    with mailbox.running() as box:
        box.refuses = True
        with pytest.raises(MailNotSent):
            await send(SmtpServer.of(box.url))


@pytest.mark.parametrize(
    "address", ["nobody", "ada@example.com\nBcc: all@example.com", "", "victim(1)@example.com"], ids=repr
)
async def test_what_is_no_address_is_refused_before_anything_is_sent(address: str) -> None:
    with mailbox.running() as box, pytest.raises(ValueError):  # noqa: PT011
        await send(SmtpServer.of(box.url), to=address)
    assert box.messages == []


async def test_without_a_server_the_message_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    await send(None)
    printed = capsys.readouterr().out
    assert "Mail to ada@example.com: Sign in" in printed
    assert "Größe: ok" in printed


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls", "user"),
    [
        ("smtp://127.0.0.1:2525", "127.0.0.1", 2525, False, None),
        ("smtps://smtp.example.com", "smtp.example.com", 465, True, None),
        ("smtp://me%40example.com:a%3Ab@smtp.example.com", "smtp.example.com", 587, False, "me@example.com"),
    ],
)
def test_a_server_is_read_from_its_url(url: str, host: str, port: int, is_tls: bool, user: str | None) -> None:
    server = SmtpServer.of(url)
    assert (server.host, server.port, server.is_tls, server.user) == (host, port, is_tls, user)
    if user:
        assert server.password is not None
        assert server.password.reveal() == "a:b"
        assert "a:b" not in repr(server)


async def test_a_server_elsewhere_without_tls_gets_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that signs somebody in must not go over a wire that others read."""
    with mailbox.running() as box:
        server = SmtpServer.of(box.url)
        with pytest.raises(MailNotSent):
            await send(SmtpServer(server.host, server.port, False, False, None, None))
    assert box.messages == []


@pytest.mark.parametrize("url", ["http://x", "smtp://", "smtp://host/path", "smtp://host?x=1"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        SmtpServer.of(url)
