"""`Min-Revision`: the answer knows of that change, or is 503; what is no revision is 400."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from endpoints.table import BUCKET, VALID
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.validator import Validator
from keywright.protocol.changes import ConsumerDelete

if TYPE_CHECKING:
    from edge.asgi import Answer
    from keywright.edge.replica.replica import Replica

BEARER = (b"authorization", b"Bearer " + VALID.encode())


class Endpoints:
    """Both endpoints on one replica at revision 3."""

    def __init__(self, replica: Replica, seconds: float) -> None:
        replica.load("dep_1", PEPPER_CHECK, at(3), [bucket(1, BUCKET), consumer(1, 1), key(VALID, 1, 1)])
        validator = Validator(replica, DIGESTER, clock=lambda: NOW)
        self._api = ValidateApi(validator, min_revision_seconds=seconds)
        self._auth = ForwardAuth(validator, min_revision_seconds=seconds)

    async def ask(self, *wanted: bytes) -> list[Answer]:
        headers = [(b"min-revision", one) for one in wanted]
        body = b'{"key":"' + VALID.encode() + b'"}'
        return [
            await call(self._api, "POST", f"/v1/validate/{BUCKET}", body=body, headers=headers),
            await call(self._auth, "GET", f"/v1/forward-auth/{BUCKET}", headers=[BEARER, *headers]),
        ]


@pytest.mark.parametrize("wanted", [[], [b"0"], [b"3"], [b"003"], [b"1", b"3"]])
async def test_what_is_there_already_is_answered_at_once(replica: Replica, wanted: list[bytes]) -> None:
    assert [answer.status for answer in await Endpoints(replica, 0.0).ask(*wanted)] == [200, 200]


async def test_what_does_not_come_in_time_is_503_and_never_a_no(replica: Replica) -> None:
    for wanted in ([b"4"], [b"3", b"4"], [b"4", b"3"], [b"9" * 18]):
        for answer in await Endpoints(replica, 0.01).ask(*wanted):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "revision 3" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wanted", [b"", b"x", b"-1", b"1.5", b"1e3", b" 1", b"+1", b"9" * 19, b"\xd9\xa3", b"1,2", b"42.ab.1"]
)
async def test_what_is_no_revision_is_400_and_names_the_header(replica: Replica, wanted: bytes) -> None:
    for more in ((), (b"1",)):
        for answer in await Endpoints(replica, 0.01).ask(wanted, *more):
            assert answer.status == 400
            assert answer.json()["errors"][0]["field"] == "header.min-revision"


async def test_what_is_applied_while_many_wait_is_in_all_their_answers(replica: Replica) -> None:
    endpoints = Endpoints(replica, 10.0)
    asking = [asyncio.create_task(endpoints.ask(b"4")) for _ in range(50)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in asking)
    replica.apply(batch(3, [ConsumerDelete(1)]))
    for api, auth in await asyncio.gather(*asking):
        assert api.json()["code"] == "UNKNOWN"
        assert auth.status == 401


async def test_a_replica_without_a_snapshot_or_that_cannot_be_read_is_waited_for_too(replica: Replica) -> None:
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    api = ValidateApi(validator, min_revision_seconds=0.01)
    for _ in range(2):
        answer = await call(
            api, "POST", f"/v1/validate/{BUCKET}", body=b'{"key":"x"}', headers=[(b"min-revision", b"1")]
        )
        assert answer.status == 503
        replica.close()
    assert validator.revision is None
