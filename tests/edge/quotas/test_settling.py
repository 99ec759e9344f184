"""POST /v2/validate with `reserve`, and POST /v2/settle with what that gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge.asgi import Answer, call
from edge.quotas.world import KEY, LIMIT, Ledger, Machine, fill
from edge.world import DIGESTER, NOW
from keywright.domain.keyformat import Digester
from keywright.domain.models import from_millis, to_iso
from keywright.edge.http.settle import PATH, SettleApi
from keywright.edge.http.validate import ValidateApi
from keywright.edge.quotas import taker
from keywright.edge.quotas.reservation_rows import RESERVATION_SECONDS
from keywright.edge.quotas.reservations import PREFIX, Reservations
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.quotas.taker import Quotas
    from keywright.edge.replica.replica import Replica


@pytest.fixture
def reservations(validator: Validator) -> Reservations:
    made = Reservations(DIGESTER, _quotas_of(validator))
    validator._reservations = made
    return made


def _quotas_of(validator: Validator) -> Quotas:
    assert validator._takers is not None
    assert isinstance(validator._takers.quotas, taker.Quotas)
    return validator._takers.quotas


@pytest.fixture
def settling(validator: Validator, reservations: Reservations) -> SettleApi:
    return SettleApi(reservations, validator, lambda: 0.0)


async def validate(validator: Validator, **more: object) -> Any:
    body = json.dumps({"key": KEY, **more}).encode()
    answer = await call(ValidateApi(validator, is_v2=True), "POST", "/v2/validate/my-bucket", body=body)
    return answer.json()


async def settle(api: SettleApi, body: object, **more: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await call(api, "POST", PATH, body=data, **more)


async def test_a_reservation_is_told_with_the_verdict_and_settled(validator: Validator, settling: SettleApi) -> None:
    told = await validate(validator, reserve=LIMIT)
    assert (told["code"], told["limits"][0]["remaining"]) == ("VALID", 0)
    assert list(told)[-1] == "reservation"
    ends = to_iso(from_millis(NOW + RESERVATION_SECONDS * 1000))
    assert (told["reservation"]["token"][:5], told["reservation"]["expiresOn"]) == (PREFIX, ends)
    refused = await validate(validator, reserve=1)
    assert (refused["code"], "reservation" in refused) == ("QUOTA_EXCEEDED", False)
    answer = await settle(settling, {"reservation": told["reservation"]["token"], "cost": 1.0})
    assert (answer.status, answer.json()) == (200, {"code": "SETTLED", "taken": 1, "reserved": LIMIT})
    assert (await validate(validator, cost=LIMIT - 1))["valid"]
    again = await settle(settling, {"reservation": told["reservation"]["token"], "cost": 0})
    assert again.json() == {"code": "SETTLED", "taken": 1, "reserved": LIMIT}
    assert (await validate(validator))["code"] == "QUOTA_EXCEEDED"


async def test_a_key_without_quotas_reserves_nothing(validator: Validator, replica: Replica) -> None:
    fill(replica, None, "refuse")
    assert (await validate(validator, reserve=5))["reservation"] is None
    assert "reservation" not in await validate(validator, cost=5)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reserve": 0}, "body.reserve"),
        ({"reserve": 1_000_001}, "body.reserve"),
        ({"reserve": 1.5}, "body.reserve"),
        ({"reserve": "5"}, "body.reserve"),
        ({"reserve": True}, "body.reserve"),
        ({"reserve": 5, "cost": 5}, "body.reserve"),
        ({"reserve": 5, "peek": True}, "body.reserve"),
    ],
)
async def test_a_reservation_that_can_not_be_made_is_400(
    validator: Validator, more: dict[str, object], field: str
) -> None:
    told = await validate(validator, **more)
    assert (told["status"], [error["field"] for error in told["errors"]]) == (400, [field])
    assert (await validate(validator, cost=LIMIT))["valid"]


async def test_v1_makes_no_reservation(validator: Validator) -> None:
    body = json.dumps({"key": KEY, "reserve": 5}).encode()
    answer = await call(ValidateApi(validator), "POST", "/v1/validate/my-bucket", body=body)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "body.reserve")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        ({"cost": 1}, "body.reservation"),
        ({"reservation": "kwr1_x"}, "body.cost"),
        ({"reservation": 1, "cost": 1}, "body.reservation"),
        ({"reservation": "kwr1_x", "cost": "1"}, "body.cost"),
        ({"reservation": "kwr1_x", "cost": -1}, "body.cost"),
        ({"reservation": "kwr1_x", "cost": 0.5}, "body.cost"),
        ({"reservation": "kwr1_x", "cost": 2**63}, "body.cost"),
        ({"reservation": "kwr1_x", "cost": 1, "quota": "calls"}, "body"),
        ({"reservation": "kwr1_x", "cost": 1}, "body.reservation"),
        ({"reservation": "\ud800", "cost": 1}, "body"),
    ],
)
async def test_what_is_no_reservation_is_400(settling: SettleApi, body: object, field: str) -> None:
    answer = await settle(settling, body)
    assert (answer.status, [error["field"] for error in answer.json()["errors"]]) == (400, [field])


@pytest.mark.parametrize(
    ("more", "status"),
    [({"content_type": b"text/plain"}, 415), ({"body": b" " * 9000}, 413), ({"method": "GET"}, 405)],
)
async def test_what_is_no_question_is_refused(settling: SettleApi, more: dict[str, Any], status: int) -> None:
    method, body = more.pop("method", "POST"), more.pop("body", b"{}")
    assert (await call(settling, method, PATH, body=body, **more)).status == status


async def test_a_foreign_reservation_is_refused_and_one_of_another_edge_not_found(
    validator: Validator, settling: SettleApi, tmp_path: Path
) -> None:
    token = (await validate(validator, reserve=1))["reservation"]["token"]
    foreign = Reservations(Digester(b"the pepper of another deployment"), _quotas_of(validator))
    other = SettleApi(foreign, validator, lambda: 0.0)
    assert (await settle(other, {"reservation": token, "cost": 0})).status == 400
    elsewhere = Machine(tmp_path / "other", ledger=Ledger())
    other = SettleApi(elsewhere.reservations, validator, lambda: 0.0)
    assert (await settle(other, {"reservation": token, "cost": 0})).status == 404
    assert (await settle(settling, {"reservation": token, "cost": 0})).json()["taken"] == 0
    elsewhere.takers.close()


async def test_who_may_not_validate_may_not_settle(validator: Validator, reservations: Reservations) -> None:
    token = (await validate(validator, reserve=1))["reservation"]["token"]
    api = SettleApi(reservations, validator, lambda: 0.0, token_required=True)
    assert (await settle(api, {"reservation": token, "cost": 0})).status == 403


async def test_where_nothing_can_be_counted_it_is_503(
    validator: Validator, settling: SettleApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await validate(validator, reserve=2))["reservation"]["token"]

    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(taker.QuotaTable, "settle", refuse)
        assert (await settle(settling, {"reservation": token, "cost": 0})).status == 503
    assert (await settle(settling, {"reservation": token, "cost": 0})).status == 200
