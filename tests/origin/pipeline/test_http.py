"""What surrounds every request: methods, addresses, ids, headers, and the failures that are nobody's mistake."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastapi.dependencies.utils
import fastapi.routing
import pytest
import sqlalchemy as sa

from keywright.domain.problems import CONTENT_TYPE
from keywright.http.client_address import ClientAddresses
from keywright.origin.accounts import rules as accounts
from keywright.origin.db import tables
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.pipeline.context import RequestContext
from keywright.origin.pipeline.publish import NotAppliedHere
from keywright.origin.pipeline.request_counts import RequestCounts
from keywright.origin.pipeline.services import Services
from origin.world import AUTHORIZATION, JSON, address, ask, document, make_names, operations, record_of, send
from support import service as services
from support.postgres import Postgres
from support.service import Service

in_module = pytest.mark.asyncio(loop_scope="module")

PATHS = {
    path: methods for path, methods in document()["paths"].items() if "security" not in next(iter(methods.values()))
}


@in_module
async def test_every_address_says_which_methods_it_answers(shared: Service) -> None:
    names = await make_names(shared)
    before = await record_of(shared)
    for path, methods in PATHS.items():
        target = address(next(one for one in operations() if one.path == path), names)
        answered = {one.upper() for one in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "FOO"):
            if method in answered:
                continue
            answer = await ask(shared, method, target, b"{}")
            assert answer.status == 405, f"{method} {target}"
            assert set(answer.headers["allow"].split(", ")) == answered, f"{method} {target}"
            assert answer.headers["content-type"] == CONTENT_TYPE
            assert method == "HEAD" or answer.json()["title"] == "Method Not Allowed"
        options = await ask(shared, "OPTIONS", target)
        assert (options.status, options.content) == (204, b"")
        assert set(options.headers["allow"].split(", ")) == answered
    assert await record_of(shared) == before
    assert (await ask(shared, "OPTIONS", "/v1/nothing")).status == 404


@in_module
async def test_head_is_get_without_the_content(shared: Service) -> None:
    for target in (shared.consumers_url, f"{shared.consumers_url}/nobody", "/openapi.json", "/v1/nothing"):
        get, head = await ask(shared, "GET", target), await ask(shared, "HEAD", target)
        assert (head.status, head.content) == (get.status, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        if get.status == 200:
            assert int(head.headers["content-length"]) == len(get.content)


@in_module
async def test_an_unknown_address_is_404(shared: Service) -> None:
    for target in (
        "/v1",
        "/v2/accounts",
        "//v1/accounts",
        "/v1//accounts",
        "/v1/accounts/",
        "/V1/accounts",
        "/%00",
    ):
        answer = await ask(shared, "GET", target)
        assert answer.status == (200 if target == "/v1/accounts/" else 404), target


@in_module
@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("abc-DEF_1.2", True), ("x" * 128, True), ("x" * 129, False), ("", False), ("a b", True), ("\xe9", False)],
)
async def test_a_request_id_is_kept_if_it_is_one(shared: Service, given: str, is_kept: bool) -> None:
    answer = await ask(shared, "GET", "/v1/nothing", None, ("x-request-id", given))
    assert answer.headers["x-request-id"] == answer.json()["requestId"]
    assert (answer.headers["x-request-id"] == given) is is_kept
    assert is_kept or re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@in_module
async def test_no_answer_is_cached_or_sniffed(shared: Service) -> None:
    for target in (shared.consumers_url, "/v1/nothing"):
        headers = (await ask(shared, "GET", target)).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@in_module
async def test_a_long_header_is_nothing_to_worry_about(shared: Service) -> None:
    long = ("user-agent", "\xff" * 100_000)
    assert (await ask(shared, "POST", shared.consumers_url, b"{}", long, ("x-request-id", "long"))).status == 400
    entry = (await shared.call("GET", f"{shared.account_url}/audit-logs?limit=1"))["data"][0]
    assert (entry["requestId"], entry["context"]["userAgent"]) == ("long", "\xff" * 512)


@in_module
@pytest.mark.parametrize("chunks", [[], [b"{"], [b'{"name": "half-sent"}']], ids=["nothing", "half", "all but the end"])
async def test_a_client_that_goes_away_changes_nothing_and_is_no_bug(
    shared: Service, chunks: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = await record_of(shared)
    headers = [AUTHORIZATION, JSON]
    await send(shared.app, "POST", shared.consumers_url, headers=headers, chunks=chunks, is_lost=True)
    assert await record_of(shared) == before
    assert "failed" not in caplog.text


@in_module
async def test_a_request_that_is_cancelled_changes_nothing(shared: Service) -> None:
    services: Services = shared.app._origin.state.services
    before = await record_of(shared)
    async with services.database.write():
        body = b'{"name": "cancelled"}'
        waiting = asyncio.create_task(ask(shared, "POST", shared.consumers_url, body))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await record_of(shared) == before
    await shared.call("POST", shared.consumers_url, json={"name": "cancelled"})


@in_module
async def test_a_bug_is_500_without_detail_logged_once_under_the_request_id(
    shared: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(accounts, "create", fail)
    answer = await ask(shared, "POST", "/v1/accounts", b'{"name": "x"}', ("x-request-id", "bug-1"))
    assert answer.status == 500
    assert answer.json() == {
        "type": "https://httpproblems.com/http-status/500",
        "title": "Internal Server Error",
        "status": 500,
        "instance": "/v1/accounts",
        "requestId": "bug-1",
    }
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["request bug-1 failed"]


@in_module
async def test_a_bug_outside_of_the_api_is_a_problem_document_too(
    shared: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(shared.app._origin, "openapi", fail)
    answer = await ask(shared, "GET", "/openapi.json", None, ("x-request-id", "bug-2"))
    assert (answer.status, answer.json()["requestId"], answer.headers["x-request-id"]) == (500, "bug-2", "bug-2")
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert "request bug-2 failed" in caplog.text


@in_module
async def test_without_the_database_it_is_503_and_says_when_to_try_again(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    services: Services = shared.app._origin.state.services

    def fail(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("gone")

    for name in ("read", "run_read"):
        monkeypatch.setattr(services.database, name, fail)
    # Nobody was let in a moment ago, whose body would be read before anything is asked.
    services.let_in.forget_after(None)
    for method in ("GET", "POST"):
        answer = await ask(shared, method, "/v1/accounts", b"{}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["detail"] == "The database can't be reached; nothing was changed."


@in_module
async def test_a_change_that_this_replica_missed_is_503_and_is_logged_as_done(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: int) -> None:
        raise NotAppliedHere

    services: Services = shared.app._origin.state.services
    monkeypatch.setitem(shared.app._origin.state._state, "services", replace(services, on_commit=(fail,)))
    answer = await ask(shared, "POST", shared.consumers_url, b'{"name": "kept"}')
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    async with services.database.read() as tx:
        logged = await tx.all(
            sa.select(tables.audit_logs.c.success).where(
                tables.audit_logs.c.request_id == answer.headers["x-request-id"]
            )
        )
    assert [row.success for row in logged] == [True]


@in_module
@pytest.mark.parametrize(
    "text", ["\U0001f511 key", "\u202eevil\u202c", "e\u0301 \u00e9", "\ufffe\uffff", "\x01\x1f\x7f\x9f", "a\u2028b"]
)
async def test_text_is_kept_as_it_was_sent(shared: Service, text: str) -> None:
    made = await shared.new_consumer(description=text, tags={text: text}, metadata={text: [text, {text: text}]})
    read = await shared.call("GET", f"{shared.consumers_url}/{made['name']}")
    assert (read["description"], read["tags"], read["metadata"]) == (text, {text: text}, {text: [text, {text: text}]})
    key = await shared.new_key(made["name"])
    answer = await shared.call("POST", f"/v1/validate/{shared.bucket}", json={"key": key["key"]})
    assert answer["user"]["data"] == read["metadata"]


@in_module
async def test_numbers_order_and_the_last_of_equal_names_are_kept(shared: Service) -> None:
    metadata = '{"z": 1, "a": 123456789012345678901234567890, "m": -0.0, "e": 1e300, "a": 5e-324, "n": null}'
    body = f'{{"name": "numbers", "name": "numbers-2", "metadata": {metadata}}}'
    answer = await ask(shared, "POST", shared.consumers_url, body.encode())
    assert answer.status == 200
    assert answer.json()["name"] == "numbers-2"
    assert list(answer.json()["metadata"].items()) == [("z", 1), ("a", 5e-324), ("m", -0.0), ("e", 1e300), ("n", None)]
    big = await ask(
        shared, "POST", shared.consumers_url, b'{"name": "big", "metadata": {"a": 123456789012345678901234567890}}'
    )
    assert b'"a":123456789012345678901234567890' in big.content


@in_module
@pytest.mark.parametrize("number", ["1e999", "-1e999", "123456789e400"])
async def test_a_number_without_end_is_refused_where_it_stands(shared: Service, number: str) -> None:
    body = f'{{"name": "x", "metadata": {{"a": [0, {number}]}}}}'
    answer = await ask(shared, "POST", shared.consumers_url, body.encode())
    error = {"field": "body.metadata.a.1", "message": "is a number too large to be kept"}
    assert (answer.status, answer.json()["errors"]) == (400, [error])


@in_module
async def test_metadata_may_be_nested_to_a_limit(shared: Service) -> None:
    def nested(depth: int) -> bytes:
        return b'{"name": "depth-%d", "metadata": {"a": %s}}' % (depth, b"[" * depth + b"]" * depth)

    assert (await ask(shared, "POST", shared.consumers_url, nested(63))).status == 200
    answer = await ask(shared, "POST", shared.consumers_url, nested(64))
    assert answer.json()["errors"][0]["message"] == "is nested more than 64 deep"


@in_module
async def test_a_long_name_over_many_values_costs_no_memory(shared: Service) -> None:
    body = b'{"%s": [%s0]}' % (b"x" * 1_000_000, b"{}," * 300_000)
    assert (await ask(shared, "POST", shared.consumers_url, body)).status == 400


@in_module
async def test_what_only_the_service_sets_may_be_sent_back(shared: Service) -> None:
    body = {"name": "sent-back", "id": "csmr_1", "createdOn": 7, "apiKeys": [{"id": 7}]}
    made = await shared.call("POST", shared.consumers_url, json=body)
    assert made["id"] != "csmr_1"


async def test_what_is_not_http_passes_by_and_a_failure_after_the_answer_began_is_the_servers() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("half-way")

    async def refuse(_: Any, error: Exception) -> Any:
        raise AssertionError(error)

    async def nothing(*_: Any) -> Any:
        return {}

    app = RequestContext(inner, refuse, ClientAddresses(), RequestCounts())
    await app({"type": "lifespan"}, nothing, nothing)
    with pytest.raises(RuntimeError, match="half-way"):
        await send(app, "GET", "/x")
    assert seen == ["lifespan", "http"]


async def test_no_request_waits_for_a_thread(embedded: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint, or what one depends on, that is no coroutine function runs on a thread: dearer than what it does."""

    async def refuse(function: Callable[..., object], *_: object, **__: object) -> None:
        raise AssertionError(f"{function} runs on a thread")

    for module in (fastapi.routing, fastapi.dependencies.utils):
        monkeypatch.setattr(module, "run_in_threadpool", refuse)
    names = await make_names(embedded)
    for one in operations():
        answer = await ask(embedded, one.method, address(one, names), b"{}" if one.method in {"POST", "PATCH"} else b"")
        assert answer.status != 500, f"{one.method} {one.path}: {answer.content!r}"


async def test_a_row_that_somebody_holds_for_too_long_is_503_and_says_when_to_try_again(
    postgres: Postgres, migrated_database: str, tmp_path: Path
) -> None:
    """PostgreSQL's lock_timeout (55P03) is its own class of errors; SQLite waits for its one lock."""
    url = postgres.new_database(migrated_database)
    # Before any connection is made: each takes the setting at its start. Nothing else waits for a row that long.
    postgres.run(f"ALTER DATABASE {url.rpartition('/')[2]} SET lock_timeout = '300ms'")
    async with services.running(services.settings_for(tmp_path / "data", url)) as service:
        consumer = await service.new_consumer()
        target = f"{service.consumers_url}/{consumer['name']}"
        async with service.app._database.write() as tx:
            await tx.execute(sa.update(tables.consumers).values(description="held"))
            answer = await ask(service, "PATCH", target, b'{"description": "x"}')
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "nothing was changed" in answer.json()["detail"]
        assert (await ask(service, "PATCH", target, b'{"description": "x"}')).status == 200
