"""Owns the remote source: an edge on another machine, asked over HTTP for every key. Nothing is cached.

When the edge does not answer, answers late or answers anything but a verdict, the verdict is UNAVAILABLE, of which the
adapters of the policy make a 503. Silence is never a yes. Asked is /v2, which says what a key is good for, too; of an
edge of before, which has none, /v1 is asked whether a key is good, and what goes beyond that stays without a verdict.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keywright import __version__
from keywright.domain import keyformat, models, problems, verdict
from keywright.domain.limit_states import LimitState
from keywright.domain.powers import NO_DEMAND, Powers
from keywright.domain.reservations import Outcome, Settlement
from keywright.domain.scopes import Scopes
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Reserved, Result, Verdict
from keywright.http.client import server_address
from keywright.http.client.answers import Answer, BadAnswer, BrokenOff
from keywright.http.client.blocking import BlockingPool
from keywright.http.client.waiting import WaitingPool
from keywright.policy.rules.charges import NotSettled
from keywright.policy.rules.identity import UNTOLD

if TYPE_CHECKING:
    import ssl

    from keywright.domain.powers import Demand

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
CONNECTIONS = 100
LARGEST_ANSWER = 1024 * 1024
ATTEMPTS = 2
"""A kept connection may have been closed by the edge just now. The second question goes on a new one."""
_REFUSALS = {
    result.verdict: result
    for result in (
        verdict.MALFORMED, verdict.UNKNOWN, verdict.DISABLED, verdict.EXPIRED, verdict.IP_NOT_ALLOWED,
        verdict.INSUFFICIENT_SCOPE, Result(Verdict.RATE_LIMITED), Result(Verdict.QUOTA_EXCEEDED),
    )
}  # fmt: skip
_LIMITED = (Verdict.RATE_LIMITED, Verdict.QUOTA_EXCEEDED)
_NO_BUCKET = "There is no such bucket."
"""What an edge says of a bucket that it does not have; an address that it does not have is another 404."""
OLD_SECONDS = 60.0
"""For how long an edge without /v2 is asked no question of /v2 whose answer /v1 has, too."""
_REQUEST_TIMEOUT = 408


class RemoteEdge:
    """A source for a policy, for threads (`validate`) and event loops (`validate_async`) alike."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        connections: int = CONNECTIONS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`url` is the address of an edge, or of `keywright serve`. `token` is a management key with `validate` access,
        for edges that want one. `timeout_seconds` is for the whole of a question. Raises ValueError.
        """
        try:
            self._address = server_address.parse(url)
        except ValueError:
            raise ValueError("the url is an edge's address, such as https://edge.internal") from None
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        headers = {"content-type": "application/json", "user-agent": f"keywright-policy/{__version__}"}
        if token is not None:
            headers["keywright-token"] = token
        self._head = server_address.head(self._address, headers)
        self._connections = connections
        self._ssl_context = ssl_context
        self._tls: ssl.SSLContext | None = None
        self._of_threads: dict[int, BlockingPool] = {}
        """By process: connections are not carried through a fork."""
        self._of_loops: dict[asyncio.AbstractEventLoop, WaitingPool] = {}
        self._told = ""
        self._old_until = -math.inf

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The edge's verdict, UNAVAILABLE when it gives none in time."""
        deadline = time.monotonic() + self._timeout_seconds
        reason = ""
        try:
            for attempt in range(ATTEMPTS):
                try:
                    for version in self._versions(demand):
                        question = self._ask_of(version, secret, bucket, demand)
                        answer = self._pool_of_threads().ask(question, deadline, on_new=attempt > 0)
                        result = self._read(answer, version)
                        if result is not None:
                            return result
                    raise _Unusable(_TOO_OLD)
                except BrokenOff as error:
                    reason = _reason_of(error)
        except (OSError, BadAnswer, _Unusable) as error:
            reason = _reason_of(error)
        return self._unavailable(reason)

    async def validate_async(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The same, to be awaited."""
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        reason = ""
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in range(ATTEMPTS):
                    try:
                        for version in self._versions(demand):
                            question = self._ask_of(version, secret, bucket, demand)
                            answer = await self._pool_of_loop().ask(question, deadline, on_new=attempt > 0)
                            result = self._read(answer, version)
                            if result is not None:
                                return result
                        raise _Unusable(_TOO_OLD)
                    except BrokenOff as error:
                        reason = _reason_of(error)
        except (OSError, BadAnswer, _Unusable) as error:
            reason = _reason_of(error)
        return self._unavailable(reason)

    async def settle_reservation(self, token: str, cost: int) -> Settlement:
        """What a reservation came to, at the edge that made it. Raises NotSettled."""
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        question = self._request("/v2/settle", _settling(token, cost))
        reason = ""
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in range(ATTEMPTS):
                    try:
                        return _settlement_of(await self._pool_of_loop().ask(question, deadline, on_new=attempt > 0))
                    except BrokenOff as error:
                        # Settled twice, it is what it was.
                        reason = _reason_of(error)
        except (OSError, BadAnswer) as error:
            reason = _reason_of(error)
        raise NotSettled(reason)

    def settle_reservation_here(self, token: str, cost: int) -> Settlement:
        """The same for threads."""
        deadline = time.monotonic() + self._timeout_seconds
        question = self._request("/v2/settle", _settling(token, cost))
        reason = ""
        try:
            for attempt in range(ATTEMPTS):
                try:
                    return _settlement_of(self._pool_of_threads().ask(question, deadline, on_new=attempt > 0))
                except BrokenOff as error:
                    reason = _reason_of(error)
        except (OSError, BadAnswer) as error:
            reason = _reason_of(error)
        raise NotSettled(reason)

    def close(self) -> None:
        """Close the connections that threads have used; `close_async` those of the running event loop, too."""
        pool = self._of_threads.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    async def close_async(self) -> None:
        self.close()
        pool = self._of_loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()

    def _pool_of_threads(self) -> BlockingPool:
        pool = self._of_threads.get(os.getpid())
        if pool is None:
            made = BlockingPool(
                self._address, self._find_tls(), connections=self._connections, most_bytes=LARGEST_ANSWER
            )
            # Of two threads that come here at once one has its pool taken, and the other takes that.
            pool = self._of_threads.setdefault(os.getpid(), made)
            for process in [process for process in self._of_threads if process != os.getpid()]:
                # The parent's sockets, of which this process has a copy: the parent's own stay open.
                self._of_threads.pop(process).close()
        return pool

    def _pool_of_loop(self) -> WaitingPool:
        loop = asyncio.get_running_loop()
        pool = self._of_loops.get(loop)
        if pool is None:
            for ended in [other for other in list(self._of_loops) if other.is_closed()]:
                # Nobody can close them any more.
                self._of_loops.pop(ended, None)
            pool = self._of_loops[loop] = WaitingPool(
                self._address, self._find_tls(), connections=self._connections, most_bytes=LARGEST_ANSWER
            )
        return pool

    def _find_tls(self) -> ssl.SSLContext | None:
        """Made at the first question: without TLS nothing is verified, and reading all certificates takes a while."""
        if self._tls is None and self._address.is_tls:
            context = self._ssl_context or server_address.new_tls_context()
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls

    def _versions(self, demand: Demand) -> tuple[int, ...]:
        """What is asked, one after the other until there is an answer."""
        if demand.scopes or demand.address is not None or demand.cost is not None or demand.is_peek:
            return (2,)
        return (1,) if time.monotonic() < self._old_until else (2, 1)

    def _ask_of(self, version: int, secret: str, bucket: str, demand: Demand) -> bytes:
        """The whole request."""
        # What is too long for a key is not carried there; the edge still says whether there is such a bucket.
        question: dict[str, Any] = {"key": secret if len(secret) <= keyformat.MAX_LENGTH else ""}
        if demand.scopes:
            question["scopes"] = list(demand.scopes)
        address = demand.find_address()
        if address is not None:
            question["ip"] = str(address)
        if demand.cost is not None:
            question["reserve" if demand.is_reserve else "cost"] = demand.cost
        if demand.is_peek:
            question["peek"] = True
        if demand.route is not None and version > 1:
            question["route"] = demand.route
        return self._request(f"/v{version}/validate/{quote(bucket, safe='')}", question)

    def _request(self, path: str, document: dict[str, Any]) -> bytes:
        body = json.dumps(document).encode()
        target = f"{self._address.path}{path}".encode()
        return b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (target, self._head, len(body), body)

    def _read(self, answer: Answer, version: int) -> Result | None:
        """None where the edge has no such version. Raises _Unusable, or BrokenOff."""
        status = answer.status
        if status == 200:
            try:
                result = _result_of(json.loads(answer.body), version)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise _Unusable("its answer is no verdict") from None
            self._told = ""
            return result
        if status == 404 and answer.find(b"content-type") == problems.CONTENT_TYPE:
            if version == 1 or _detail_of(answer) == _NO_BUCKET:
                return verdict.NO_BUCKET
            self._old_until = time.monotonic() + OLD_SECONDS
            return None
        if status == _REQUEST_TIMEOUT:
            # RFC 9110 section 15.5.9: said of a connection that has waited, before this question has got there.
            raise BrokenOff("it had closed the connection (408)")
        hint = ": it wants another token" if status == 403 else ""
        raise _Unusable(f"it answered {status}{hint}")

    def _unavailable(self, reason: str) -> Result:
        # Once, not for every request; and never the error itself, which carries the request with the secret.
        if reason != self._told:
            self._told = reason
            _log.warning("the edge at %s gives no verdicts: %s", self._url, reason)
        return verdict.UNAVAILABLE


class _Unusable(Exception):
    """There is an answer, and it is of no use."""


_TOO_OLD = "it has no /v2/validate: an edge of its version judges no scopes or addresses"


def _detail_of(answer: Answer) -> object:
    try:
        return json.loads(answer.body)["detail"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _result_of(document: Any, version: int) -> Result:
    """Raises ValueError, LookupError, TypeError or AttributeError for what is not the answer of an edge."""
    code = Verdict(document["code"])
    if document["valid"] is False:
        limits = _limits_of(document) if code in _LIMITED else ()
        return Result(code, limits=limits) if limits else _REFUSALS[code]
    if document["valid"] is not True or code is not Verdict.VALID:
        raise ValueError("not a verdict")
    user, consumer_id, key = document["user"], document["consumer"]["id"], document["key"]
    texts = (user["sub"], consumer_id, key["id"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(user["data"], dict):
        raise TypeError("not an identity")
    expires_on = key["expiresOn"]
    expires_at = None if expires_on is None else models.to_millis(datetime.fromisoformat(expires_on))
    powers, granted = (UNTOLD, None) if version == 1 else _powers_of(document)
    # The number is the replica's own name for the consumer, and stays there.
    record = KeyRecord(key["id"], 0, expires_at, powers)
    owner = ConsumerRecord(consumer_id, user["sub"], json.dumps(user["data"]).encode(), granted)
    limits = () if version == 1 else _limits_of(document)
    reservation = document.get("reservation")
    if reservation is None:
        return Result(Verdict.VALID, record, owner, limits)
    if not isinstance(reservation["token"], str):
        raise TypeError("not a reservation")
    reserved = Reserved(Verdict.VALID, record, owner, limits)
    reserved.token = reservation["token"]
    return reserved


def _settling(token: str, cost: int) -> dict[str, Any]:
    return {"reservation": token, "cost": cost}


def _settlement_of(answer: Answer) -> Settlement:
    """Raises NotSettled."""
    if answer.status != 200:
        raise NotSettled(f"the edge answered {answer.status}")
    try:
        told = json.loads(answer.body)
        taken, reserved = told["taken"], told["reserved"]
        if type(taken) is not int or type(reserved) is not int:
            raise TypeError
        return Settlement(Outcome(told["code"]), taken, reserved)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise NotSettled("the edge's answer is none") from None


def _powers_of(document: Any) -> tuple[Powers, Powers]:
    """What the key is good for, as if granted to its consumer: the edge has cut that with the key's own."""
    scopes, metadata = document["scopes"], document["key"]["metadata"]
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise TypeError("not scopes")
    if not isinstance(metadata, dict):
        raise TypeError("not metadata")
    return Powers(metadata=json.dumps(metadata).encode() if metadata else None), Powers(scopes=Scopes(scopes))


def _limits_of(document: Any) -> tuple[LimitState, ...]:
    """Raises as `_result_of` does."""
    over, retry_seconds = document.get("violated", ()), document.get("retryAfterSeconds", 0)
    states = tuple(
        LimitState(
            limit["name"], limit["limit"], limit["windowSeconds"], limit["remaining"], limit["resetSeconds"],
            limit["name"] in over, retry_seconds,
        )
        for limit in document.get("limits", ())
    )  # fmt: skip
    for name, *numbers, _, _ in states:
        if not isinstance(name, str) or not all(number is None or type(number) is int for number in numbers):
            raise TypeError("not limits")
    if retry_seconds is not None and type(retry_seconds) is not int:
        raise TypeError("not limits")
    return states


def _reason_of(error: Exception) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, (BadAnswer, BrokenOff)):
        return f"of its answer: {error}"
    return f"{type(error).__name__}: {error}"
