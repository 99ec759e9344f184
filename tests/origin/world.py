"""What tests over every operation need: the operations, things that exist, what is in the record, and raw requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from starlette.types import ASGIApp, Message

from keywright.domain.limits import Period, Quota
from keywright.origin.app import create_app
from keywright.origin.db import tables
from keywright.runtime.clock import Clock
from support.quotas import set_quotas
from support.service import ROOT_KEY, Service, bare_services

JSON = ("content-type", "application/json")
AUTHORIZATION = ("authorization", f"Bearer {ROOT_KEY}")
_numbers = count(1)


@cache
def document() -> dict[str, Any]:
    """Our OpenAPI document, at the default limits."""
    return create_app(bare_services(), Clock()).openapi()


@dataclass(frozen=True)
class Operation:
    """An operation of the Developer API, with `$ref`s of its body resolved."""

    method: str
    path: str
    query: dict[str, dict[str, Any]]
    body: dict[str, Any] | None
    example: Any
    is_body_required: bool
    is_for_end_users: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations() -> list[Operation]:
    """Those that are asked with a management key."""
    return [one for one in every_operation() if not one.is_for_end_users]


def every_operation() -> list[Operation]:
    found = []
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            is_for_end_users = {"endUserToken": []} in operation.get("security", ())
            if "security" in operation and not is_for_end_users:
                continue  # The edge's endpoints, which are tested beside the edge.
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            query = {
                one["name"]: resolved(one["schema"])
                for one in operation.get("parameters", [])
                if one["in"] == "query" and one["name"] not in ("tag", "key-tag")
            }
            found.append(
                Operation(
                    method=method.upper(),
                    path=path,
                    query=query,
                    body=resolved(content["schema"]) if content else None,
                    example=content.get("example"),
                    is_body_required=operation.get("requestBody", {}).get("required", False),
                    is_for_end_users=is_for_end_users,
                )
            )
    return found


def resolved(schema: Any) -> Any:
    """A schema with the schemas that it points at in their places."""
    if isinstance(schema, list):
        return [resolved(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: resolved(one) for name, one in schema.items() if name != "$ref"}
    if "$ref" in schema:
        return {**resolved(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]), **rest}
    return rest


async def make_names(service: Service) -> dict[str, str]:
    """Things for every part of a path."""
    await service.call("POST", "/v1/accounts", json={"name": "partner-account"})
    await service.call("POST", f"{service.bucket_url}/grants", json={"account": "partner-account", "access": "read"})
    consumer = await service.new_consumer(name="world-consumer", tags={"plan": "gold"})
    url = f"{service.consumers_url}/{consumer['name']}"
    key = await service.new_key(consumer["name"])
    manager = await service.call("POST", f"{url}/managers", json={"email": "world@example.com"})
    owner = await service.call("POST", f"{service.bucket_url}/owner-keys", json={})
    await service.call("POST", f"{service.bucket_url}/plans", json={"name": "world-plan"})
    await set_quotas(service.app._database, consumer["name"], [Quota("world-quota", 100, Period.DAY)])
    management = await service.call("POST", f"{service.account_url}/management-keys", json={"permissions": {}})
    return {
        "accountName": service.account,
        "bucketName": service.bucket,
        "projectName": "my-project",
        "planName": "world-plan",
        "consumerName": consumer["name"],
        "quotaName": "world-quota",
        "otherAccount": "partner-account",
        "managerId": manager["id"],
        "keyId": key["id"],
        "owner-keys": owner["id"],
        "management-keys": management["id"],
        "edgeId": "edge_of_nobody",
    }


def address(operation: Operation, names: dict[str, str], **changed: str) -> str:
    for kind in ("owner-keys", "management-keys"):
        if f"/{kind}/" in operation.path:
            names = {**names, "keyId": names[kind]}
    return operation.path.format(**{**names, **changed})


async def record_of(service: Service) -> dict[str, int]:
    """The head revision and the number of rows of each table, but for the audit log, where refusals stand, and what
    edges tell by themselves.
    """
    async with service.app._database.read() as tx:
        found = {"revision": await tx.scalar(sa.select(tables.deployment.c.revision))}
        for table in tables.metadata.sorted_tables:
            if table.name not in {"audit_logs", "edge_shares"}:
                found[table.name] = await tx.scalar(sa.select(sa.func.count()).select_from(table))
    return found


async def rows_of(service: Service) -> dict[str, list[str]]:
    """The rows of each table, but for the audit log, where refusals stand, and edges, which report by themselves."""
    async with service.app._database.read() as tx:
        return {
            table.name: sorted(repr(tuple(row)) for row in await tx.all(sa.select(table)))
            for table in tables.metadata.sorted_tables
            if table.name not in {"audit_logs", "edges", "edge_shares"}
        }


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


async def send(
    app: ASGIApp,
    method: str,
    target: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    chunks: Sequence[bytes] = (),
    is_lost: bool = False,
) -> Answer | None:
    """One request as a server hands it on, byte for byte. With `is_lost` the client goes after the last chunk."""
    raw, _, query = target.encode("latin-1").partition(b"?")
    scope: Any = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    coming: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    coming.append({"type": "http.disconnect"} if is_lost else {"type": "http.request", "body": b"", "more_body": False})
    gone: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def take(message: Message) -> None:
        gone.append(message)

    await app(scope, receive, take)
    if is_lost:
        return None
    start = gone[0]
    names = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(one.get("body", b"") for one in gone[1:]))


async def ask(service: Service, method: str, target: str, body: bytes | None = None, *more: tuple[str, str]) -> Answer:
    """A request with the root key and, if it has a body, as JSON unless `more` says otherwise."""
    # Some demand it, and none minds it.
    headers = [AUTHORIZATION, ("idempotency-key", f"test-{next(_numbers)}"), *more]
    if body is not None:
        headers.append(("content-length", str(len(body))))
        if not any(name == "content-type" for name, _ in more):
            headers.append(JSON)
    answer = await send(service.app, method, target, headers=headers, chunks=[body] if body else [])
    assert answer is not None
    return answer


def check(answer: Answer, about: str, status: int = 400, field: str | None = None, message: str = "") -> None:
    assert answer.status == status, f"{about}: {answer.status} {answer.content[:500]!r}"
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", about
    assert problem["type"] == f"https://httpproblems.com/http-status/{status}", about
    assert {"title", "status", "detail", "instance", "requestId"} <= problem.keys(), about
    if status == 400:
        told = {error["field"]: error["message"] for error in problem["errors"]}
        assert field in told, f"{about}: {told}"
        assert message in told[field], f"{about}: {told}"
        assert all(rule and rule != "is not valid" and "pydantic" not in rule for rule in told.values()), told
