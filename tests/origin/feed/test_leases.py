"""Asking for quotas over HTTP and over a broker: who may, for what, and all that is refused."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from keywright.domain.limits import Period, Quota
from keywright.nats.connection import connect
from keywright.origin.db import tables
from keywright.origin.feed.leases import NatsLeases
from keywright.protocol.changes import Cursor
from keywright.protocol.leases import MAX_QUESTION_BYTES, Answer, Ask, LeaseSigner, Loan, Outcome, Question
from keywright.runtime.clock import Clock
from keywright.runtime.nats_options import NatsOptions
from keywright.serve import key_files
from support import service as services
from support.record import cursor_of
from support.service import ROOT_KEY, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEASES = "/v1/feed/leases"
QUOTA = Quota("calls", 100, Period.DAY)


@dataclass
class Asker:
    service: Service
    signer: LeaseSigner
    deployment_id: str
    consumer_number: int
    consumer_name: str

    def question(self, **asked: Any) -> Question:
        asks = (Ask(self.consumer_number, "calls", **asked),)
        return Question(self.deployment_id, secrets.token_urlsafe(16), 1, 1, "", "", False, asks)

    async def post(self, data: bytes, expect: int = 200, key: str = ROOT_KEY) -> bytes:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await self.service.client.post(LEASES, content=data, headers=headers)
        assert answer.status_code == expect, answer.text
        return answer.content

    async def ask(self, question: Question, key: str = ROOT_KEY) -> Loan:
        data = self.signer.encode_question(question)
        return self.signer.decode_answer(data, await self.post(data, key=key)).loans[0]


@pytest_asyncio.fixture(loop_scope="module")
async def asker(shared_on_both: Service) -> Asker:
    return await new_asker(shared_on_both)


async def new_asker(service: Service) -> Asker:
    name = (await service.new_consumer())["name"]
    async with service.app._database.write() as tx:
        one = tables.consumers.c.name == name
        await tx.execute(sa.update(tables.consumers).where(one).values(quotas=[QUOTA]))
        number = await tx.scalar(sa.select(tables.consumers.c.number).where(one))
        deployment_id = await tx.scalar(sa.select(tables.deployment.c.id))
    return Asker(service, LeaseSigner(key_files.load_digester(service.settings)), deployment_id, number, name)


async def test_edge_of_the_deployment_is_lent_and_renewed(asker: Asker) -> None:
    question = asker.question(need=30)
    lent = await asker.ask(question)
    assert (lent.outcome, lent.granted, lent.free, lent.life_millis) == (Outcome.LENT, 30, 70, 60_000)

    told = Ask(asker.consumer_number, "calls", lent.lease, spent=30, need=10)
    renewed = await asker.ask(replace(question, number=2, asks=(told,)))
    assert (renewed.lease, renewed.granted, renewed.free) == (lent.lease, 40, 60)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        pytest.param({"*": "validate"}, Outcome.LENT, id="every bucket"),
        pytest.param({"my-project-production": "validate"}, Outcome.LENT, id="this bucket"),
        pytest.param({"my-project-preview": "write"}, Outcome.UNKNOWN, id="another bucket"),
    ],
)
async def test_edge_token_is_lent_what_it_sees(asker: Asker, buckets: dict[str, str], expected: Outcome) -> None:
    token = await asker.service.new_management_key(buckets=buckets, feed=True)

    assert (await asker.ask(asker.question(need=1), key=token)).outcome is expected


async def test_only_edge_tokens_may_ask(asker: Asker) -> None:
    data = asker.signer.encode_question(asker.question(need=1))
    token = await asker.service.new_management_key(buckets={"*": "write"})

    await asker.post(data, expect=403, key=token)
    await asker.post(data, expect=401, key="nobody-knows-it")


async def test_what_is_no_question_is_refused_and_changes_nothing(asker: Asker) -> None:
    good = asker.signer.encode_question(asker.question(need=1))
    await asker.post(b"", expect=400)
    await asker.post(b"no question", expect=400)
    await asker.post(good[:-1], expect=400)
    await asker.post(good + b"x" * MAX_QUESTION_BYTES, expect=413)
    for refused in (replace(asker.question(need=1), deployment_id="dply_other"), asker.question(need=1)):
        cursor = "nonsense" if refused.deployment_id == asker.deployment_id else ""
        await asker.post(asker.signer.encode_question(replace(refused, cursor=cursor)), expect=409)

    async with asker.service.app._database.read() as tx:
        own = tables.quota_periods.c.consumer_number == asker.consumer_number
        assert await tx.all(sa.select(tables.quota_periods).where(own)) == []


async def test_question_that_is_sent_again_is_409_and_lends_nothing_more(asker: Asker) -> None:
    data = asker.signer.encode_question(asker.question(need=5))
    await asker.post(data)
    await asker.post(data, expect=409)

    assert (await asker.ask(asker.question(want=1))).free == 94


async def test_only_what_is_no_edges_question_counts_as_a_request(asker: Asker) -> None:
    limiter = asker.service.app._origin.state.services.management_rate
    before = limiter.rate, limiter.burst
    limiter.rate, limiter.burst = 0.001, 5
    try:
        for _ in range(8):
            await asker.ask(asker.question(want=1))
        answered = [(await asker.service.client.post(LEASES, content=b"no question")).status_code for _ in range(8)]
    finally:
        limiter.rate, limiter.burst = before
    assert (answered[0], answered[-1]) == (400, 429)


async def test_edges_at_a_broker_ask_as_those_of_the_deployment(asker: Asker, options: NatsOptions) -> None:
    leases = NatsLeases(
        asker.service.app._database, key_files.load_digester(asker.service.settings), secrets.token_bytes
    )
    subject = f"{options.prefix}.leases"
    origin, edge = [await connect(options, name, Clock()) for name in ("origin", "edge")]
    try:
        await origin.reply(subject, leases.answer)
        data = asker.signer.encode_question(asker.question(need=30))
        answer: Answer = asker.signer.decode_answer(data, await edge.request(subject, data))
        assert (answer.loans[0].outcome, answer.loans[0].granted) == (Outcome.LENT, 30)
    finally:
        await origin.close()
        await edge.close()
    # Whoever is at the broker may send anything; that it is refused, is said without the record's words.
    for garbage, status in ((b"", 400), (b"no question", 400), (data, 409)):
        told = await leases.answer(garbage)
        assert told is not None
        assert json.loads(told)["status"] == status


async def test_reader_that_was_further_than_the_record_shuts_what_runs(tmp_path: Path) -> None:
    async with services.running(services.settings_for(tmp_path / "data")) as service:
        asker = await new_asker(service)
        assert (await asker.ask(asker.question(need=1))).outcome is Outcome.LENT

        head = await cursor_of(service.app._database)
        lost = Cursor(head.revision + 5, "f" * 16, head.stamped_at + 1)
        headers = {"keywright-nonce": "nonce-of-16-chars"}
        await service.call("GET", f"/v1/feed/changes?after={lost}", headers=headers, expect=410)
        assert (await asker.ask(asker.question(need=1))).outcome is Outcome.AWAY
