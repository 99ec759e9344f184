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
import weakref
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx2

from keywright import __version__
from keywright.domain import keyformat, models, problems, verdict
from keywright.domain.limit_states import LimitState
from keywright.domain.powers import NO_DEMAND, Powers
from keywright.domain.reservations import Outcome, Settlement
from keywright.domain.scopes import Scopes
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Reserved, Result, Verdict
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
"""A kept connection may have been closed by the edge just now; asking again changes nothing there."""
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
_BROKEN_OFF = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
            raise ValueError("the url is an edge's address, such as https://edge.internal")
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        headers = {"content-type": "application/json", "user-agent": f"keywright-policy/{__version__}"}
        if token is not None:
            headers["keywright-token"] = token
        self._options: dict[str, Any] = {
            "headers": headers,
            "timeout": timeout_seconds,
            "limits": httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            "follow_redirects": False,
            # A proxy from the environment of the application is not for its keys.
            "trust_env": False,
            # Without TLS there is nothing to verify, and reading all certificates takes a while.
            "verify": ssl_context or parts.scheme == "https",
        }
        self._client: tuple[int, httpx2.Client] | None = None
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )
        self._told = ""
        self._old_until = -math.inf

    def validate(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The edge's verdict, UNAVAILABLE when it gives none in time."""
        deadline = time.monotonic() + self._timeout_seconds
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                for version in self._versions(demand):
                    url, question = self._ask_of(version, secret, bucket, demand)
                    with self._client_here().stream("POST", url, content=question) as response:
                        answer = _Answer()
                        for part in response.iter_raw():
                            answer.add(part)
                            if time.monotonic() > deadline:
                                raise TimeoutError
                        result = self._read(response, answer, version)
                    if result is not None:
                        return result
                raise _Unusable(_TOO_OLD)
            except _BROKEN_OFF as error:
                reason = _reason_of(error)
            except (httpx2.HTTPError, TimeoutError, _Unusable) as error:
                return self._unavailable(_reason_of(error))
        return self._unavailable(reason)

    async def validate_async(self, secret: str, bucket: str, demand: Demand = NO_DEMAND) -> Result:
        """The same, to be awaited."""
        reason = ""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(ATTEMPTS):
                    try:
                        return await self._ask(secret, bucket, demand)
                    except _BROKEN_OFF as error:
                        reason = _reason_of(error)
        except (httpx2.HTTPError, TimeoutError, _Unusable) as error:
            reason = _reason_of(error)
        return self._unavailable(reason)

    async def settle_reservation(self, token: str, cost: int) -> Settlement:
        """What a reservation came to, at the edge that made it. Raises NotSettled."""
        reason = ""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(ATTEMPTS):
                    try:
                        response = await self._client_of_loop().post(
                            f"{self._url}/v2/settle", json=_settling(token, cost)
                        )
                        return _settlement_of(response)
                    except _BROKEN_OFF as error:
                        # Settled twice, it is what it was.
                        reason = _reason_of(error)
        except (httpx2.HTTPError, TimeoutError) as error:
            reason = _reason_of(error)
        raise NotSettled(reason)

    def settle_reservation_here(self, token: str, cost: int) -> Settlement:
        """The same for threads."""
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                response = self._client_here().post(f"{self._url}/v2/settle", json=_settling(token, cost))
                return _settlement_of(response)
            except _BROKEN_OFF as error:
                reason = _reason_of(error)
            except (httpx2.HTTPError, TimeoutError) as error:
                raise NotSettled(_reason_of(error)) from None
        raise NotSettled(reason)

    def close(self) -> None:
        """Close the connections that threads have used; `close_async` those of the running event loop, too."""
        client, self._client = self._client, None
        if client is not None and client[0] == os.getpid():
            client[1].close()

    async def close_async(self) -> None:
        self.close()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _ask(self, secret: str, bucket: str, demand: Demand) -> Result:
        client = self._client_of_loop()
        for version in self._versions(demand):
            url, question = self._ask_of(version, secret, bucket, demand)
            async with client.stream("POST", url, content=question) as response:
                answer = _Answer()
                async for part in response.aiter_raw():
                    answer.add(part)
                result = self._read(response, answer, version)
            if result is not None:
                return result
        raise _Unusable(_TOO_OLD)

    def _client_of_loop(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx2.AsyncClient(**self._options)
        return client

    def _client_here(self) -> httpx2.Client:
        """Connections are not carried through a fork."""
        client = self._client
        if client is None or client[0] != os.getpid():
            client = self._client = (os.getpid(), httpx2.Client(**self._options))
        return client[1]

    def _versions(self, demand: Demand) -> tuple[int, ...]:
        """What is asked, one after the other until there is an answer."""
        if demand.scopes or demand.address is not None or demand.cost is not None or demand.is_peek:
            return (2,)
        return (1,) if time.monotonic() < self._old_until else (2, 1)

    def _ask_of(self, version: int, secret: str, bucket: str, demand: Demand) -> tuple[str, bytes]:
        url = f"{self._url}/v{version}/validate/{quote(bucket, safe='')}"
        # What is too long for a key is not carried there; the edge still says whether there is such a bucket.
        question: dict[str, Any] = {"key": secret if len(secret) <= keyformat.MAX_LENGTH else ""}
        if demand.scopes:
            question["scopes"] = list(demand.scopes)
        address = demand.find_address()
        if address is not None:
            question["ip"] = str(address)
        if demand.cost is not None:
            question["cost"] = demand.cost
        if demand.is_reserve:
            question["reserve"] = question.pop("cost")
        if demand.is_peek:
            question["peek"] = True
        if demand.route is not None and version > 1:
            question["route"] = demand.route
        return url, json.dumps(question).encode()

    def _read(self, response: httpx2.Response, answer: _Answer, version: int) -> Result | None:
        """None where the edge has no such version. Raises _Unusable."""
        status = response.status_code
        if status == 200:
            try:
                result = _result_of(json.loads(answer.body), version)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise _Unusable("its answer is no verdict") from None
            self._told = ""
            return result
        if status == 404 and response.headers.get("content-type") == problems.CONTENT_TYPE:
            if version == 1 or _detail_of(answer) == _NO_BUCKET:
                return verdict.NO_BUCKET
            self._old_until = time.monotonic() + OLD_SECONDS
            return None
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


class _Answer:
    def __init__(self) -> None:
        self.body = b""

    def add(self, part: bytes) -> None:
        self.body += part
        if len(self.body) > LARGEST_ANSWER:
            raise _Unusable("its answer has no end")


_TOO_OLD = "it has no /v2/validate: an edge of its version judges no scopes or addresses"


def _detail_of(answer: _Answer) -> object:
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


def _settlement_of(response: httpx2.Response) -> Settlement:
    """Raises NotSettled."""
    if response.status_code != 200:
        raise NotSettled(f"the edge answered {response.status_code}")
    try:
        told = response.json()
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
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return "it did not answer in time"
    return f"{type(error).__name__}: {error}"
