"""An edge delivers usage with its token and its MAC, and at a broker in its own name alone."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from keywright.origin.db.engine import DatabaseUnavailable
from keywright.origin.db.tables import usage_edges
from keywright.origin.usage.intake import rules
from keywright.origin.usage.intake.endpoint import NatsUsage
from keywright.protocol import usage
from keywright.protocol.usage import HOUR_MILLIS, UsageBatch, UsageRow
from keywright.protocol.usage_delivery import MAX_BYTES, WISHES_QUESTION, Delivery, Outcome, UsageAnswer, UsageSigner
from keywright.serve import key_files
from support.service import Service


class Delivering:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.signer = UsageSigner(key_files.load_digester(service.settings))
        deployment_id = service.app._replica.deployment_id
        assert deployment_id is not None
        hour = int(time.time() * 1000) // HOUR_MILLIS
        row = UsageRow(hour, 1, 1, "key_1", "VALID", None, None, None, 3, 0, 1)
        self.batch = UsageBatch(
            deployment_id.partition("/")[0],
            secrets.token_hex(16),
            1,
            1,
            "instance-of-edge-1",
            "fra.1",
            "",
            0,
            0,
            (row,),
        )

    def delivery(self, batch: UsageBatch | None = None) -> Delivery:
        content = usage.encode(batch or self.batch)
        return Delivery("instance-of-edge-1", "fra.1", "", secrets.token_hex(16), None, content)

    async def deliver(self, delivery: Delivery, key: str | None = None) -> UsageAnswer:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        data = self.signer.encode_delivery(delivery)
        answer = await self.service.client.post("/v1/feed/usage", content=data, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/vnd.keywright.usage"
        return self.signer.decode_answer(answer.content, delivery)

    async def status(self, data: bytes, key: str | None = None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return (await self.service.client.post("/v1/feed/usage", content=data, headers=headers)).status_code


@pytest.fixture
def delivering(embedded: Service) -> Delivering:
    return Delivering(embedded)


async def test_edge_delivers_over_http_and_is_answered_again_what_is(delivering: Delivering) -> None:
    for _ in range(2):
        assert await delivering.deliver(delivering.delivery()) == UsageAnswer(Outcome.TAKEN, 2)
    third = replace(delivering.batch, first_number=3, number=3)
    assert await delivering.deliver(delivering.delivery(third)) == UsageAnswer(Outcome.GAP, 2)


async def test_what_is_no_delivery_of_an_edge_is_refused(delivering: Delivering) -> None:
    data = delivering.signer.encode_delivery(delivering.delivery())
    assert await delivering.status(b"") == 400
    assert await delivering.status(data[:-1] + b"x") == 400
    assert await delivering.status(bytes(MAX_BYTES + 1)) == 413
    without_feed = await delivering.service.new_management_key(buckets={"*": "write"})
    assert await delivering.status(data, without_feed) == 403
    assert await delivering.status(data, "kwak_no_such_key") == 401
    assert await delivering.status(data) == 200


async def test_token_for_one_bucket_delivers_usage_of_that_one_only(delivering: Delivering) -> None:
    token = await delivering.service.new_management_key(buckets={"my-project-production": "validate"}, feed=True)
    rows = tuple(delivering.batch.rows[0]._replace(bucket_number=number, total=1) for number in range(1, 30))
    answer = await delivering.deliver(delivering.delivery(replace(delivering.batch, rows=rows)), token)
    assert (answer.outcome, answer.lost, answer.detail) == (Outcome.TAKEN, 28, "28 not-allowed")


async def test_too_many_deliveries_at_once_are_put_off(delivering: Delivering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_WAITING", 0)
    assert await delivering.status(delivering.signer.encode_delivery(delivering.delivery())) == 429


async def test_edge_at_a_broker_delivers_on_its_own_subject_alone(
    delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = delivering.service.app._intake
    at_broker = NatsUsage(intake, key_files.load_digester(delivering.service.settings))
    delivery = delivering.delivery()
    data = delivering.signer.encode_delivery(delivery)
    for part, sent in (("fra_1", b"junk"), ("fra_2", data), ("fra", data)):
        answer = await at_broker.answer(part, sent)
        assert answer is not None
        assert json.loads(answer).keys() == {"refused"}
    taken = await at_broker.answer("fra_1", data)
    assert taken is not None
    assert delivering.signer.decode_answer(taken, delivery).outcome is Outcome.TAKEN

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(rules.rows_of, "lock_epoch", away)
    assert await at_broker.answer("fra_1", data) is None


async def test_edge_is_told_which_of_the_buckets_it_sees_record_addresses(embedded: Service) -> None:
    delivering = Delivering(embedded)
    own = await embedded.new_management_key(buckets={embedded.bucket: "validate"}, feed=True)
    others = await embedded.call("POST", f"{embedded.account_url}/key-buckets", json={"name": "unseen-bucket"})

    async def ask(key: str | None = None) -> frozenset[int] | None:
        question = replace(delivering.delivery(), content=WISHES_QUESTION)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        data = delivering.signer.encode_delivery(question)
        answer = await embedded.client.post("/v1/feed/usage", content=data, headers=headers)
        return delivering.signer.decode_wishes(answer.content, question)

    assert (await ask(), await ask(own)) == (frozenset(), frozenset())
    for name in (embedded.bucket, others["name"]):
        await embedded.call("PATCH", f"{embedded.account_url}/key-buckets/{name}", json={"recordAddresses": True})
    every, seen = await ask(), await ask(own)
    assert every is not None
    assert seen is not None
    assert (len(every), len(seen)) == (2, 1)
    assert seen < every
    # Beside that it is an ordinary delivery without a batch.
    async with embedded.app._database.read() as tx:
        assert await tx.scalar(sa.select(usage_edges.c.name).where(usage_edges.c.name == "fra.1")) == "fra.1"
    for name in (embedded.bucket, others["name"]):
        await embedded.call("PATCH", f"{embedded.account_url}/key-buckets/{name}", json={"recordAddresses": False})
    assert await ask() == frozenset()
