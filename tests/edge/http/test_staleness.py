"""A bucket whose owner would rather have no answer than an old one gets none from a replica that is too far behind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from endpoints.table import BUCKET, VALID
from keywright.domain.verdict import Verdict
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import ValidateApi
from keywright.edge.replica import records
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keywright.protocol.changes import BucketPut

ASK = b'{"key":"' + VALID.encode() + b'"}'


class Lag:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def lag() -> Lag:
    return Lag()


@pytest.fixture
def strict(tmp_path: Path, lag: Lag) -> Iterator[Replica]:
    """BUCKET refuses after 10 s, `other-bucket` never does."""
    replica = Replica.open(tmp_path / "strict", PEPPER_CHECK, lag_seconds=lag)
    puts = [limited(1, BUCKET, 10), bucket(2, "other-bucket"), consumer(1, 1), consumer(2, 2)]
    replica.load("dep_1", PEPPER_CHECK, at(4), [*puts, key(VALID, 1, 1), key(VALID, 2, 2)])
    yield replica
    replica.close()


def limited(number: int, name: str, seconds: int | None) -> BucketPut:
    return replace(bucket(number, name), refuse_after=seconds)


def verdict(replica: Replica, name: str = BUCKET, secret: str = VALID) -> Verdict:
    return Validator(replica, DIGESTER, clock=lambda: NOW).validate(secret, name).verdict


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "VALID"), (10.0, "VALID"), (10.1, "UNAVAILABLE"), (math.inf, "UNAVAILABLE")]
)
def test_a_key_is_judged_up_to_the_limit_and_not_behind_it(
    strict: Replica, lag: Lag, seconds: float, expected: str
) -> None:
    for _ in range(10):  # Records that are found often are kept decoded.
        assert verdict(strict) is Verdict.VALID
    lag.seconds = seconds
    assert verdict(strict) == expected
    assert verdict(strict, "other-bucket") is Verdict.VALID


@pytest.mark.parametrize("secret", ["", "zpka_unknown-key", "no key\x00", "x" * 600, "\ud800" * 9, VALID[:-1] + "0"])
def test_no_text_gets_a_no_from_a_replica_that_may_say_nothing(strict: Replica, lag: Lag, secret: str) -> None:
    lag.seconds = 11
    assert verdict(strict, secret=secret) is Verdict.UNAVAILABLE
    assert verdict(strict, "no-such-bucket", secret) is Verdict.NO_BUCKET


async def test_the_doors_answer_503_and_never_401(strict: Replica, lag: Lag) -> None:
    validator = Validator(strict, DIGESTER, clock=lambda: NOW)
    lag.seconds = 11
    api, auth = ValidateApi(validator), ForwardAuth(validator)
    for answer in (
        await call(api, "POST", f"/v1/validate/{BUCKET}", body=ASK),
        await call(auth, "GET", f"/v1/forward-auth/{BUCKET}"),
        await call(
            auth, "GET", f"/v1/forward-auth/{BUCKET}", headers=[(b"authorization", b"Bearer " + VALID.encode())]
        ),
    ):
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "x-consumer-name" not in answer.headers or answer.headers["x-consumer-name"] == ""


def test_a_new_limit_holds_from_the_change_that_brings_it_and_its_end_too(strict: Replica, lag: Lag) -> None:
    lag.seconds = 5
    assert verdict(strict, "other-bucket") is Verdict.VALID
    strict.apply(batch(4, [limited(2, "other-bucket", 3)]))
    assert verdict(strict, "other-bucket") is Verdict.UNAVAILABLE
    strict.apply(batch(5, [limited(2, "other-bucket", None)]))
    assert verdict(strict, "other-bucket") is Verdict.VALID


def test_where_nobody_tells_the_lag_it_is_endless(replica: Replica) -> None:
    replica.load("dep_1", PEPPER_CHECK, at(3), [limited(1, BUCKET, 10**6), consumer(1, 1), key(VALID, 1, 1)])
    assert verdict(replica) is Verdict.UNAVAILABLE


def test_a_bucket_that_an_older_version_wrote_has_no_limit() -> None:
    record = records.decode_bucket(BUCKET, b'[1,"bckt_1","acct_1",{"acct_2":"read"}]')
    assert (record.number, record.refuse_after) == (1, None)
    put = limited(1, BUCKET, 10)
    assert records.bucket_put(records.decode_bucket(BUCKET, records.encode_bucket(put))) == put
