"""Owns keys that are none, for the tests of an application: no edge, no replica, no files.

    from keywright.policy.testing import fake_keys

    with fake_keys() as keys:
        client.get("/hello", headers=keys.headers(keys.valid("acme", {"plan": "gold"})))

Meanwhile every policy in the process asks these, however and when it was made. pytest has them as the fixture
`keywright_keys`. See docs/reference/policy.md.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from keywright.domain import keyformat, models, verdict
from keywright.domain.limit_states import LimitState
from keywright.domain.networks import Networks, parse_network
from keywright.domain.powers import NO_DEMAND, Powers
from keywright.domain.reservations import Outcome, Settlement
from keywright.domain.scopes import Scopes, find_fault
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Reserved, Result, Verdict, decide
from keywright.policy.rules.stand_ins import standing_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from keywright.domain.powers import Demand

__all__ = ["Asked", "FakeKeys", "fake_keys"]

_RESERVED = "kwr1_of-a-test-"
_BEFORE_ALL = -(2**63)
"""When keys are judged here: before each end that one may have been given."""


class _Judged(NamedTuple):
    key: str
    bucket: str
    verdict: str
    """As in docs/reference/validation.md: `VALID`, `UNKNOWN`, ..."""


class Asked(_Judged):
    """What a policy has asked: one entry for each request that showed a key. It equals the tuple of these three."""

    cost: int | None = None
    """What the route said that it takes, or reserves; None where it said nothing."""


class FakeKeys:
    """A source that knows the keys that a test makes. `asked` has every question, oldest first."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.settled: list[int] = []
        """What reservations came to, oldest first."""
        self.is_available = True
        """Set it to False, and no key can be checked: requests with one are answered 503."""
        self._results: dict[str, tuple[str | None, Result]] = {}

    def valid(
        self,
        sub: str = "consumer",
        data: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        bucket: str | None = None,
        expires_at: datetime | None = None,
        scopes: Collection[str] = (),
        allowed_ips: Collection[str] | None = None,
        key_metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """A valid key of this consumer with this metadata, in this bucket (None: in every one).

        `expires_at` is what the application is told; the key is valid all the same. It is good for these `scopes`, and
        from the networks in `allowed_ips` only (None: from everywhere). Raises ValueError.
        """
        fault = find_fault(list(scopes))
        if fault is not None:
            raise ValueError(f"scopes {fault}")
        number = len(self._results) + 1
        millis = None if expires_at is None else models.to_millis(expires_at)
        consumer = ConsumerRecord(
            f"csmr_{sub}", sub, json.dumps(dict(data or {})).encode(), Powers(scopes=Scopes(scopes))
        )
        own = Powers(
            networks=None if allowed_ips is None else Networks([parse_network(text) for text in allowed_ips]),
            metadata=None if key_metadata is None else json.dumps(dict(key_metadata)).encode(),
        )
        record = KeyRecord(f"key_{number}", number, millis, own)
        return self._keep(key, bucket, Result(Verdict.VALID, record, consumer))

    def expired(self, *, key: str | None = None, bucket: str | None = None) -> str:
        """A key that was valid once."""
        return self._keep(key, bucket, verdict.EXPIRED)

    def disabled(self, *, key: str | None = None, bucket: str | None = None) -> str:
        """A key that was switched off."""
        return self._keep(key, bucket, verdict.DISABLED)

    def rate_limited(
        self, *, key: str | None = None, bucket: str | None = None, retry_seconds: int = 1, name: str = "limit"
    ) -> str:
        """A key that was used too often, by a rate limit of this name: answered 429, with Retry-After."""
        state = LimitState(name, 1, retry_seconds, 0, retry_seconds, is_violated=True, retry_seconds=retry_seconds)
        return self._keep(key, bucket, Result(Verdict.RATE_LIMITED, limits=(state,)))

    def quota_exceeded(
        self, *, key: str | None = None, bucket: str | None = None, retry_seconds: int = 60, name: str = "quota"
    ) -> str:
        """A key whose quota of this name is used up: answered 429, with Retry-After."""
        state = LimitState(name, 1, None, 0, retry_seconds, is_violated=True, retry_seconds=retry_seconds)
        return self._keep(key, bucket, Result(Verdict.QUOTA_EXCEEDED, limits=(state,)))

    def unknown(self) -> str:
        """A key as Keywright makes them, and nobody has."""
        return keyformat.generate(keyformat.DEFAULT_PREFIX, secrets.token_bytes).reveal()

    def delete(self, key: str) -> None:
        """From here on it is unknown."""
        self._results.pop(key, None)

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        """The header that shows a key where `auth_header` and `auth_scheme` are the default."""
        return {"Authorization": f"Bearer {key}"}

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        result = self._judge(secret, bucket, demand)
        asked = Asked(secret, bucket, str(result.verdict))
        asked.cost = demand.cost
        self.asked.append(asked)
        if not (demand.is_reserve and result.is_valid):
            return result
        reserved = Reserved(*result)
        reserved.token = f"{_RESERVED}{demand.cost}"
        return reserved

    async def settle_reservation(self, token: str, cost: int) -> Settlement:
        return self.settle_reservation_here(token, cost)

    def settle_reservation_here(self, token: str, cost: int) -> Settlement:
        reserved = int(token.removeprefix(_RESERVED))
        self.settled.append(cost)
        return Settlement(Outcome.SETTLED, cost, reserved)

    def _judge(self, secret: str, bucket: str, demand: Demand) -> Result:
        if not self.is_available:
            return verdict.UNAVAILABLE
        of_bucket, result = self._results.get(secret, (None, None))
        if result is not None and of_bucket in (None, bucket):
            return decide(result.key, result.consumer, _BEFORE_ALL, demand) if result.is_valid else result
        return verdict.UNKNOWN if keyformat.is_possible(secret) else verdict.MALFORMED

    def _keep(self, key: str | None, bucket: str | None, result: Result) -> str:
        secret = self.unknown() if key is None else key
        if not keyformat.is_possible(secret):
            raise ValueError("a key is 8 to 512 printable ASCII characters without spaces")
        self._results[secret] = (bucket, result)
        return secret


@contextlib.contextmanager
def fake_keys() -> Iterator[FakeKeys]:
    """New fake keys, which every policy of this process asks until the end of the block."""
    keys = FakeKeys()
    with standing_in(keys):
        yield keys
