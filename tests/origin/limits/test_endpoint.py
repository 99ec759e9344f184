"""An edge asks for its shares with its token and its MAC, and is told only what its token shows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
import sqlalchemy as sa

from keywright.edge.shares.sharing import Sharing
from keywright.origin.db import tables
from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.limits import rules
from keywright.origin.limits.endpoint import NatsShares
from keywright.protocol.shares import MAX_BYTES, WHOLE, ShareAnswer, SharesSigner, Use, UseReport
from keywright.serve import key_files
from support.service import Service
from support.shares import limit_id

USE = Use(1.0, True, 100, 60)


class Asking:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.signer = SharesSigner(key_files.load_digester(service.settings))
        deployment_id = service.app._replica.deployment_id
        assert deployment_id is not None
        self.report = UseReport(deployment_id, "instance-of-edge-1", "0" * 16, 1, 0, {})

    async def ask(self, report: UseReport, key: str | None = None) -> ShareAnswer:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        data = self.signer.encode_report(report)
        answer = await self.service.client.post("/v1/feed/shares", content=data, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/vnd.keywright.shares"
        return self.signer.decode_answer(answer.content, report)

    async def status(self, data: bytes, key: str | None = None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return (await self.service.client.post("/v1/feed/shares", content=data, headers=headers)).status_code


@pytest.fixture(autouse=True)
def _only_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one beside the origin would be another."""

    async def ask_nothing(_: Sharing) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Sharing, "run", ask_nothing)


@pytest.fixture
def asking(embedded: Service, monkeypatch: pytest.MonkeyPatch) -> Asking:
    monkeypatch.setattr(rules, "GATHER_SECONDS", 0.0)
    return Asking(embedded)


async def test_edge_is_told_its_shares_over_http(asking: Asking) -> None:
    first = await asking.ask(asking.report)
    assert (first.number, first.is_whole, first.edges) == (1, True, 1)
    assert first.fallback == WHOLE
    second = await asking.ask(replace(asking.report, number=2, taken=1, uses={limit_id(1): USE}))
    assert (second.number, second.is_whole, second.shares) == (2, False, {limit_id(1): WHOLE})


async def test_what_is_no_report_of_an_edge_is_refused(asking: Asking) -> None:
    data = asking.signer.encode_report(asking.report)
    assert await asking.status(b"") == 400
    assert await asking.status(data[:-1] + b"x") == 400
    assert await asking.status(bytes(MAX_BYTES + 1)) == 413
    other = replace(asking.report, deployment_id="dply_other")
    assert await asking.status(asking.signer.encode_report(other)) == 409
    assert await asking.status(data) == 200
    assert await asking.status(data) == 409
    without_feed = await asking.service.new_management_key(buckets={"*": "write"})
    assert await asking.status(data, without_feed) == 403


async def test_token_for_one_bucket_is_told_of_its_limits_only(asking: Asking) -> None:
    service = asking.service
    preview = f"{service.account_url}/key-buckets/my-project-preview/consumers"
    shown, hidden = await service.new_consumer(), await service.call("POST", preview, json={"name": "hidden"})
    numbers = []
    async with service.app._database.read() as tx:
        for one in (shown, hidden):
            found = tables.consumers.c.id == one["id"]
            numbers.append(await tx.scalar(sa.select(tables.consumers.c.number).where(found)))
    uses = {limit_id(number): USE for number in numbers}
    everything = await asking.ask(replace(asking.report, uses=uses))
    assert everything.shares.keys() == uses.keys()
    token = await service.new_management_key(buckets={"my-project-production": "validate"}, feed=True)
    other = replace(asking.report, instance="instance-of-edge-2", uses=uses)
    told = await asking.ask(other, token)
    assert told.shares.keys() == {limit_id(numbers[0])}


async def test_broker_hears_a_refusal_and_nothing_while_the_record_is_away(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = asking.service.app._shares
    at_broker = NatsShares(shares, key_files.load_digester(asking.service.settings))
    for data in (b"junk", asking.signer.encode_report(replace(asking.report, deployment_id="dply_other"))):
        answer = await at_broker.answer(data)
        assert answer is not None
        assert json.loads(answer).keys() == {"refused"}

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(rules.rows, "lock", away)
    assert await at_broker.answer(asking.signer.encode_report(asking.report)) is None
