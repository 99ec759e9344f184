"""Owns validation: a secret and a bucket in, a Result out. A plain def: no await, no network, and no exception.

The secret is turned into a digest first and looked up; only a text that is no key of the bucket is looked at for its
form, because a custom key can have any form. Judging is domain/verdict.py's, the records are the replica's, and what a
good answer takes of limits is counted in edge/limits.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from keywright.domain import keyformat, verdict
from keywright.domain.permissions import SYSTEM_BUCKET, Access, Grantee
from keywright.domain.powers import NO_DEMAND, Demand
from keywright.domain.verdict import Lacking, Reserved, Result, Verdict
from keywright.edge.quotas.waiting import settled, settled_here
from keywright.edge.replica.files import BROKEN
from keywright.edge.replica.replica import UNREADABLE as _UNREADABLE
from keywright.edge.replica.replica import NotReady, ReplicaBroken, Stale

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.domain.keyformat import Digester
    from keywright.edge.limits.takers import Takers
    from keywright.edge.quotas.reservations import Reservations
    from keywright.edge.replica.replica import Replica
    from keywright.edge.usage.counter import UsageCounter

_log = logging.getLogger(__name__)

_PEEK = Demand(is_peek=True)


class Validator:
    """May be shared by threads. `clock` gives milliseconds since the epoch (`Clock.millis`)."""

    def __init__(
        self,
        replica: Replica,
        digester: Digester,
        clock: Callable[[], int],
        takers: Takers | None = None,
        usage: UsageCounter | None = None,
        reservations: Reservations | None = None,
    ) -> None:
        """Without `takers` no key with limits is answered for. `usage` counts each validation that is no peek, once,
        by the verdict that it comes to in the end. `reservations` gives what is reserved its token.
        """
        self._replica = replica
        self._take = None if takers is None else takers.take
        self._takers = takers
        self._digest = digester.digest
        self._clock = clock
        self._usage = usage
        self._reservations = reservations
        self._has_logged = False

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The verdict on a secret in a bucket, for any text whatever; the hidden system bucket is none here."""
        if bucket[:1] == "_":
            return verdict.NO_BUCKET
        return self._validate(secret, bucket, demand)

    async def settle(self, found: Lacking, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The verdict where quotas must be lent first: it waits for that, a quarter of a second at most.

        Without an answer by then the bucket's owner has said what holds.
        """
        if self._takers is None:
            return verdict.UNAVAILABLE
        asked = secret, bucket, demand
        return await settled(found, self._takers, partial(self.validate, *asked), partial(self.without_answer, *asked))

    def settle_here(self, found: Lacking, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The same for who has no event loop: this thread waits."""
        if self._takers is None:
            return verdict.UNAVAILABLE
        asked = secret, bucket, demand
        return settled_here(found, self._takers, partial(self.validate, *asked), partial(self.without_answer, *asked))

    def without_answer(self, secret: str, bucket: str, demand: Demand) -> Result:
        """Nobody lends, and nobody says that there is no more: UNAVAILABLE, or served and counted as overspent."""
        try:
            record = self._replica.find_bucket(bucket)
            if record is None or self._takers is None:
                return verdict.UNAVAILABLE
            if record.refuse_after is not None:
                return self._refused_without_answer(secret, bucket, demand)
        except (NotReady, Stale):
            return verdict.UNAVAILABLE
        except _UNREADABLE as error:
            self._log_once(error)
            return verdict.UNAVAILABLE
        return self._validate(secret, bucket, demand, overspends=True)

    def authorise(self, token: str, bucket: str) -> bool:
        """Whether the token is a management key that may validate in this bucket. False, too, when nobody can say."""
        # A peek: whoever asks about keys does not use its own by that.
        result = self._validate(token, SYSTEM_BUCKET, _PEEK)
        if result.consumer is None or bucket[:1] == "_":
            return False
        try:
            grantee = Grantee.from_json(json.loads(result.consumer.metadata))
        except (ValueError, LookupError, TypeError, AttributeError):
            return False
        try:
            record = self._replica.find_bucket(bucket)
        except (NotReady, *_UNREADABLE) as error:
            self._log_once(error)
            return False
        if record is None:
            return False
        access = grantee.on_bucket(
            bucket_id=record.bucket_id, bucket_name=bucket, account_id=record.account_id, grants=record.grants
        )
        return access >= Access.VALIDATE

    @property
    def revision(self) -> int | None:
        """How far the replica is; None when it has no snapshot, or can't be read."""
        try:
            return self._replica.revision
        except _UNREADABLE as error:
            self._log_once(error)
            return None

    def has_bucket(self, bucket: str) -> bool | None:
        """Whether there is such a bucket; None when the replica can't say."""
        found = self.validate("", bucket).verdict
        return None if found is Verdict.UNAVAILABLE else found is not Verdict.NO_BUCKET

    def knows_bucket(self, bucket: str) -> bool:
        """Whether there is such a bucket for all that the replica has, however old that is."""
        try:
            return bucket[:1] != "_" and self._replica.find_bucket(bucket) is not None
        except (NotReady, UnicodeEncodeError, *_UNREADABLE):
            return False

    def _validate(  # noqa: PLR0911, PLR0912
        self, secret: str, bucket: str, demand: Demand = NO_DEMAND, *, overspends: bool = False
    ) -> Result:
        try:
            # A text of 10 MB is not worth a digest.
            if keyformat.MIN_LENGTH <= len(secret) <= keyformat.MAX_LENGTH:
                found = self._replica.find(bucket, self._digest(secret))
                if found is None:
                    return verdict.NO_BUCKET
                key, consumer = found
                if key is not None:
                    now = self._clock()
                    result = verdict.decide(key, consumer, now, demand)
                    usage = self._usage
                    # A key without a consumer is not good.
                    if result[1] is not None and consumer is not None:
                        own, above = key[3], consumer[3]
                        if (own is not None and own.has_limits) or (above is not None and above.has_limits):
                            if self._take is None:
                                result = verdict.UNAVAILABLE
                            else:
                                result = self._take(key, consumer, demand, overspends=overspends)
                                if type(result) is Lacking:
                                    # No answer yet: what it comes to is counted, when it is asked again.
                                    return result
                                if type(result) is Reserved and self._reservations is not None:
                                    result.token = self._reservations.seal(bucket, result.reservation)
                        elif usage is not None and demand is NO_DEMAND and now < usage.end:
                            # As `usage.count` would do it: a call that is saved here is one for each validation.
                            tally = usage.good.get(key[0])
                            if tally is not None and tally[3] is above:
                                tally[0] += 1
                                tally[2] = now
                                return result
                    if usage is not None and not demand[3]:
                        usage.count(bucket, key, consumer, result[0], now, demand)
                    return result
                if keyformat.is_possible(secret):
                    return self._counted(verdict.UNKNOWN, bucket, demand)
            else:
                record = self._replica.find_bucket(bucket)
                if record is None:
                    return verdict.NO_BUCKET
                self._replica.check_fresh(record)
        except UnicodeEncodeError:
            # A lone surrogate, which no key can hold.
            return self._counted(self._validate("", bucket, demand), bucket, demand)
        except (NotReady, Stale):
            return verdict.UNAVAILABLE
        except _UNREADABLE as error:
            self._log_once(error)
            return verdict.UNAVAILABLE
        # Where no key was shown there is none that was used.
        return self._counted(verdict.MALFORMED, bucket, demand) if secret else verdict.MALFORMED

    def _refused_without_answer(self, secret: str, bucket: str, demand: Demand) -> Result:
        """UNAVAILABLE, counted for the key: of a question that lacks quotas nothing was counted so far."""
        if self._usage is not None and not demand.is_peek:
            key, consumer = self._replica.find(bucket, self._digest(secret)) or (None, None)
            if key is not None:
                self._usage.count(bucket, key, consumer, Verdict.UNAVAILABLE, self._clock(), demand)
        return verdict.UNAVAILABLE

    def _counted(self, result: Result, bucket: str, demand: Demand) -> Result:
        """The verdict on what is no key."""
        if self._usage is not None and not demand.is_peek and result.verdict is not Verdict.UNAVAILABLE:
            self._usage.count(bucket, None, None, result.verdict, self._clock(), demand)
        return result

    def _log_once(self, error: Exception) -> None:
        """Once, not per request; and the follower is told, if it is the files that are broken."""
        if isinstance(error, (ReplicaBroken, *BROKEN)):
            self._replica.mark_corrupt()
        if not self._has_logged:
            self._has_logged = True
            _log.error("the replica can't be read: %s: %s", type(error).__name__, error)
