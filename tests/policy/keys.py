"""A source of three keys, for tests of what an endpoint does around a verdict; real sources are in test_sources.py."""

from __future__ import annotations

from keywright.domain import verdict
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Result, Verdict

GOLD, EXPIRED, LOST = "zpka_gold", "zpka_expired", "zpka_lost"
BEARER = [(b"authorization", b"Bearer zpka_gold")]
METADATA = b'{"plan":"gold"}'


class Keys:
    """`asked` has every secret that it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.steps: list[str] = []

    def validate(self, secret: str, bucket: str) -> Result:
        self.asked.append(secret)
        if secret == GOLD:
            return Result(
                Verdict.VALID, KeyRecord("key_1", 1, 4102444800000), ConsumerRecord("csmr_1", "acme", METADATA)
            )
        return {EXPIRED: verdict.EXPIRED, LOST: verdict.UNAVAILABLE}.get(secret, verdict.UNKNOWN)

    def open(self) -> None:
        self.steps.append("open")

    def close(self) -> None:
        self.steps.append("close")


THE_KEYS = Keys()
