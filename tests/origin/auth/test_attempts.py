"""Sign-ins that fail are slowed down, and one stranger shuts out nobody else: no admin, no user, no chosen user."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from keywright.domain.networks import parse_network
from keywright.domain.problems import BadRequest, Problem, ServiceUnavailable, TooManyRequests
from keywright.origin.auth.attempts import Attempt, AttemptLimit, LetterLimit, Pace
from keywright.origin.pipeline import rate_limit
from keywright.origin.web import cookies
from support import service as services
from support.service import ROOT_KEY, Service
from support.visitor import Visitor

STRANGER, ADMIN = "192.0.2.66", "198.51.100.7"
SLOW = 0.0001
LIMIT = AttemptLimit(Pace(SLOW, 3), Pace(SLOW, 6), "Too many.")
LETTERS = LetterLimit(
    browser=Pace(SLOW, 10), address=Pace(SLOW, 30), mailbox=Pace(SLOW, 8), network=Pace(SLOW, 3), first=Pace(SLOW, 1),
    message="Too many.",
)  # fmt: skip


def failed(attempts: Any, attempt: Attempt, error: Exception | None = None) -> bool:
    """Whether an attempt that fails was judged at all."""
    try:
        with attempts.judging(attempt):
            raise error or BadRequest("no")
    except TooManyRequests:
        return False
    except (Problem, OSError):
        return True


def test_failures_are_counted_and_successes_are_not() -> None:
    attempts, ada = LIMIT.new(), Attempt("ada", ADMIN)
    for _ in range(50):
        with attempts.judging(ada):
            pass
    assert [failed(attempts, ada) for _ in range(5)] == [True] * 3 + [False] * 2


def test_what_could_not_be_judged_has_not_failed() -> None:
    attempts, ada = LIMIT.new(), Attempt("ada", ADMIN)
    for error in (ServiceUnavailable("away"), OSError()):
        assert all(failed(attempts, ada, error) for _ in range(20))


def test_one_browser_uses_up_its_own_and_not_its_address() -> None:
    attempts = LIMIT.new()
    tried = [failed(attempts, Attempt("stranger", ADMIN)) for _ in range(100)]
    assert tried[-1] is False
    assert failed(attempts, Attempt("ada", ADMIN))


def test_a_browser_that_is_known_stands_in_no_line_with_strangers() -> None:
    attempts = LIMIT.new()
    tried = [failed(attempts, Attempt(f"new-{number}", ADMIN)) for number in range(100)]
    assert tried[-1] is False
    assert not failed(attempts, Attempt("ada", ADMIN))
    assert failed(attempts, Attempt("ada", ADMIN, known="ada-before"))


def test_an_address_of_ipv6_is_counted_by_its_network() -> None:
    attempts = LIMIT.new()
    for number in range(100):
        failed(attempts, Attempt(f"new-{number}", f"2001:db8:1:1::{number:x}"))
    assert not failed(attempts, Attempt("another", "2001:db8:1:1:ffff::1"))
    assert failed(attempts, Attempt("another", "2001:db8:1:2::1"))


def test_one_stranger_uses_up_no_mailbox() -> None:
    letters = LETTERS.new()
    assert not taken(letters, *(Attempt("stranger", STRANGER) for _ in range(20)))[-1]
    assert taken(letters, Attempt("ada", ADMIN), Attempt("ada at a cafe", "203.0.113.5")) == [True, True]
    # Behind the same address, too.
    assert taken(letters, Attempt("ada at work", STRANGER)) == [True]


def test_a_mailbox_gets_no_more_than_its_share_of_all_together() -> None:
    letters = LETTERS.new()
    assert sum(taken(letters, *(Attempt(f"b-{n}", f"192.0.2.{n}") for n in range(30)))) == 8
    assert taken(letters, Attempt("ada", ADMIN, known="ada-before")) == [True]


def test_links_that_are_used_are_not_counted() -> None:
    letters, ada = LETTERS.new(), Attempt("ada", ADMIN)
    for _ in range(30):
        assert taken(letters, ada) == [True]
        letters.give_back(ada, "ada@example.com")


def taken(letters: Any, *attempts: Attempt) -> list[bool]:
    found = []
    for attempt in attempts:
        with contextlib.suppress(TooManyRequests):
            letters.take(attempt, "ada@example.com")
            found.append(True)
            continue
        found.append(False)
    return found


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """In which no time passes by which attempts are made up for, however long they take."""
    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    settings = services.settings_for(tmp_path / "data")
    proxies = (parse_network("127.0.0.1"),)
    settings = replace(settings, trusted_proxies=proxies, client_address_header="x-real-ip")
    async with services.running(settings) as running:
        yield running


@contextlib.asynccontextmanager
async def behind_proxy(service: Service, *addresses: str, peer: str = "127.0.0.1") -> AsyncIterator[Visitor]:
    """A browser, as a proxy at `peer` tells of it."""
    transport = httpx2.ASGITransport(app=service.app, client=(peer, 1))
    headers = [("X-Real-IP", address) for address in addresses]
    async with httpx2.AsyncClient(transport=transport, base_url="http://keywright.test", headers=headers) as client:
        yield Visitor(client)


async def guess(visitor: Visitor, times: int) -> list[int]:
    fields = await visitor.hidden("/admin/sign-in")
    return [
        (await visitor.client.post("/admin/sign-in", data={**fields, "key": f"wrong-key-number-{n}"})).status_code
        for n in range(times)
    ]


async def test_an_admin_signs_in_while_a_stranger_guesses_at_their_address(service: Service) -> None:
    async with behind_proxy(service, ADMIN) as stranger:
        assert (await guess(stranger, 40))[-1] == 429
    async with behind_proxy(service, ADMIN) as admin:
        await admin.sign_in()


async def test_an_admin_who_signed_in_before_does_so_whatever_strangers_did(service: Service) -> None:
    async with behind_proxy(service, ADMIN) as admin:
        await admin.sign_in()
        for _ in range(8):
            async with behind_proxy(service, ADMIN) as stranger:
                await guess(stranger, 10)
        async with behind_proxy(service, ADMIN) as stranger:
            assert (await guess(stranger, 1)) == [429]
        await admin.send("/admin/sign-out", page="/admin/accounts/my-account/buckets")
        await admin.sign_in()


async def test_a_browser_that_was_invented_is_not_judged(service: Service) -> None:
    async with behind_proxy(service, ADMIN) as stranger:
        fields = {**await stranger.hidden("/admin/sign-in"), "csrf": cookies.csrf_of("invented"), "key": ROOT_KEY}
        stranger.client.cookies.clear()
        stranger.client.cookies.set("keywright-visitor", "invented")
        await stranger.send_again("/admin/sign-in", fields, 403)


async def test_wrong_management_keys_are_counted_by_the_clients_address(service: Service) -> None:
    async def ask(address: str, key: str, peer: str = "127.0.0.1") -> int:
        async with behind_proxy(service, address, peer=peer) as visitor:
            answer = await visitor.client.get("/v1/who-am-i", headers={"Authorization": f"Bearer {key}"})
            return answer.status_code

    assert [await ask(STRANGER, f"guess-number-{n}-of-somebody-unknown") for n in range(40)][-1] == 429
    key = await service.new_management_key(account="read")
    assert await ask(ADMIN, key) == 200
    # Nobody but the proxy is believed.
    spoofed = [await ask(f"203.0.113.{n}", f"spoof-number-{n}-of-somebody-unknown", "192.0.2.77") for n in range(40)]
    assert spoofed[-1] == 429


async def test_the_audit_log_shows_the_client(service: Service) -> None:
    async with behind_proxy(service, "2001:db8::7") as admin:
        await admin.sign_in()
    url = f"{service.account_url}/audit-logs"
    entries = (await service.call("GET", url, params={"action": "admin.sign-in"}))["data"]
    assert entries[0]["context"]["ipAddress"] == "2001:db8::7"


@pytest.mark.parametrize("values", [("192.0.2.1", "192.0.2.2"), ("192.0.2.1, 192.0.2.2",), ("192.0.2.1:443",)])
async def test_an_odd_header_of_a_proxy_is_refused(service: Service, values: tuple[str, ...]) -> None:
    async with behind_proxy(service, *values) as visitor:
        answer = await visitor.client.get("/v1/who-am-i", headers={"Authorization": f"Bearer {ROOT_KEY}"})
        assert answer.status_code == 400
        assert "x-real-ip" in answer.json()["detail"]
        assert answer.headers["x-request-id"]
