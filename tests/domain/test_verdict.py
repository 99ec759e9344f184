"""The judgement of a key, to the millisecond."""

from __future__ import annotations

import pytest

from keywright.domain import verdict
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Result, Verdict, decide

NOW = 1_800_000_000_000
CONSUMER = ConsumerRecord("csmr_1", "acme", b"{}")


def key(expires_at: int | None = None) -> KeyRecord:
    return KeyRecord("key_1", 1, expires_at)


@pytest.mark.parametrize(
    ("record", "consumer", "expected"),
    [
        pytest.param(None, None, Verdict.UNKNOWN, id="no such key"),
        pytest.param(None, CONSUMER, Verdict.UNKNOWN, id="no such key, but a consumer"),
        pytest.param(key(), None, Verdict.UNKNOWN, id="its consumer is gone"),
        pytest.param(key(NOW - 1), None, Verdict.UNKNOWN, id="its consumer is gone, and it has expired"),
        pytest.param(key(0), CONSUMER, Verdict.EXPIRED, id="expired in 1970"),
        pytest.param(key(-1), CONSUMER, Verdict.EXPIRED, id="expired before 1970"),
        pytest.param(key(NOW - 1), CONSUMER, Verdict.EXPIRED, id="expired a millisecond ago"),
        pytest.param(key(NOW), CONSUMER, Verdict.EXPIRED, id="expires at this very millisecond"),
        pytest.param(key(NOW + 1), CONSUMER, Verdict.VALID, id="expires in a millisecond"),
        pytest.param(key(), CONSUMER, Verdict.VALID, id="never expires"),
    ],
)
def test_a_key_is_judged_by_its_records_and_the_clock(
    record: KeyRecord | None, consumer: ConsumerRecord | None, expected: Verdict
) -> None:
    result = decide(record, consumer, NOW)

    assert result.verdict is expected
    assert result.is_valid is (expected is Verdict.VALID)
    # Whose key it is is told of valid keys only.
    assert (result.key, result.consumer) == ((record, consumer) if result.is_valid else (None, None))


def test_every_refusal_tells_nothing_but_its_verdict() -> None:
    refusals = (
        verdict.MALFORMED, verdict.UNKNOWN, verdict.DISABLED, verdict.EXPIRED, verdict.IP_NOT_ALLOWED,
        verdict.INSUFFICIENT_SCOPE, Result(Verdict.RATE_LIMITED), Result(Verdict.QUOTA_EXCEEDED),
        verdict.NO_BUCKET, verdict.UNAVAILABLE,
    )  # fmt: skip
    assert {refusal.verdict for refusal in refusals} == set(Verdict) - {Verdict.VALID}
    assert all(refusal.key is None and refusal.consumer is None and not refusal.is_valid for refusal in refusals)
