"""Owns the endpoints for programs: a key in a JSON body, the verdict in the answer.

POST /v1/validate/{bucketName} asks whether a key is good, /v2 also whether it is good for something, from somewhere: an
edge that could not judge that has no /v2, and /v1 refuses such a question rather than pass over what it demands. What
a body may hold is questions/validate_question.py's business.

This is the hot path of the service, so it is one function that does little: no routing table, no request object, and
the consumer's metadata goes out as the bytes that came in.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from keywright.domain import models
from keywright.domain.limit_states import find_retry_seconds, violated
from keywright.domain.powers import NO_POWERS, list_granted
from keywright.domain.problems import MethodNotAllowed, PayloadTooLarge, Problem, UnsupportedMediaType
from keywright.domain.verdict import Lacking, Reserved, Verdict
from keywright.edge.http.endpoint import (
    JSON_TYPE,
    encode_json,
    find_bucket_name,
    no_bucket,
    not_ready,
    require_token,
    send_failure,
    send_problem,
)
from keywright.edge.http.min_revision import WAIT_SECONDS, MinRevision
from keywright.edge.http.questions.validate_question import parse_v1, parse_v2
from keywright.edge.http.validation_counts import ValidationCounts
from keywright.http.body import SlowBodies, chunks_after, read_bounded, too_slow
from keywright.http.request_id import request_id
from keywright.runtime.metrics.histogram import now_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.domain.limit_states import LimitState
    from keywright.domain.verdict import ConsumerRecord, KeyRecord, Result
    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.validator import Validator

PREFIX = "/v1/validate/"
PREFIX_V2 = "/v2/validate/"
MAX_BODY_BYTES = 64 * 1024
_TOO_LARGE = f"The body may have {MAX_BODY_BYTES} bytes."
ANSWERS_KEPT = 20_000
Message = dict[str, Any]
Headers = list[tuple[bytes, bytes]]


class ValidateApi:
    """ASGI for requests whose path begins with PREFIX, or PREFIX_V2. `counts` is what it has answered."""

    def __init__(
        self,
        validator: Validator,
        *,
        token_required: bool = False,
        min_revision_seconds: float = WAIT_SECONDS,
        is_v2: bool = False,
    ) -> None:
        self._prefix, self._parse = (PREFIX_V2, parse_v2) if is_v2 else (PREFIX, parse_v1)
        self._render = _valid_v2 if is_v2 else _valid
        self._is_v2 = is_v2
        self._validator = validator
        self._min_revision = MinRevision(validator, min_revision_seconds)
        self._validate = validator.validate
        self._token_required = token_required
        self._slow_bodies = SlowBodies()
        self.counts = ValidationCounts(validator.knows_bucket)
        self._valid = self.counts.valid
        self._observe = self.counts.latency.observe_since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0912
        # In one piece: a call that is saved here is one for each validation.
        began = now_ns()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("A key is validated by POST.", headers={"allow": "POST"})
            bucket = find_bucket_name(scope, self._prefix)
            if bucket is None:
                raise no_bucket()
            length, is_minimum_asked, given_id = _read_headers(scope)
            if self._token_required:
                require_token(self._validator, scope, bucket)
            if length > MAX_BODY_BYTES:
                raise PayloadTooLarge(_TOO_LARGE)
            if is_minimum_asked:
                await self._min_revision.reach(scope)
                began = now_ns()
            data = await self._read(receive, length)
            if len(data) > MAX_BODY_BYTES:
                raise PayloadTooLarge(_TOO_LARGE)
            secret, demand = self._parse(data)
            found = self._validate(secret, bucket, demand)
            if type(found) is Lacking:
                found = await self._validator.settle(found, secret, bucket, demand)
            verdict, key, consumer, limits = found
            if key is not None and consumer is not None:
                if bucket in self._valid:
                    self._valid[bucket] += 1
                else:
                    self.counts.begin(bucket)
                headers, body = self._render(key, consumer)
                if self._is_v2 and (limits or demand[5]):
                    headers, body = _with_limits(body, limits, found if demand[5] else None)
            else:
                headers, body = self._refuse(bucket, verdict, limits)
        except Problem as problem:
            await send_problem(scope, send, problem)
            self._observe(began)
            return
        except Exception as error:  # noqa: BLE001
            self.counts.failures += 1
            await send_failure(scope, send, error)
            self._observe(began)
            return
        # The kept headers are everybody's: the id goes into a copy of them.
        id_header = (b"x-request-id", request_id(given_id))
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, id_header]})
        await send(body)
        self._observe(began)

    async def _read(self, receive: Receive, length: int) -> bytes:
        """The body, of which `length` bytes are said to come. Raises PayloadTooLarge, RequestTimeout."""
        task = self._slow_bodies.begin()
        try:
            message = await receive()
            data: bytes = message.get("body", b"")
            # Granian says that more may come even where the whole body is there.
            if len(data) != length and message.get("more_body", False):
                self._slow_bodies.end(task)
                return await read_bounded(chunks_after(data, receive), MAX_BODY_BYTES, _TOO_LARGE)
            return data
        except asyncio.CancelledError:
            if self._slow_bodies.is_expired(task):
                raise too_slow() from None
            raise
        finally:
            self._slow_bodies.end(task)

    def _refuse(self, bucket: str, verdict: Verdict, limits: Sequence[LimitState]) -> tuple[Headers, Message]:
        self.counts.refuse(bucket, verdict)
        if verdict is Verdict.NO_BUCKET:
            raise no_bucket()
        if verdict is Verdict.UNAVAILABLE:
            raise not_ready()
        if limits and self._is_v2:
            return _limited(verdict, limits)
        return _answer(b'{"valid":false,"code":"%b"}' % verdict.encode())


def _read_headers(scope: Scope) -> tuple[int, bool, bytes | None]:
    """The length that the body is said to have, -1 if it isn't; whether there is a Min-Revision; the X-Request-Id.

    Raises UnsupportedMediaType for another type than JSON. A body of no declared type is taken for JSON, which is what
    it is decoded as anyway.
    """
    length = -1
    is_minimum_asked = False
    given_id = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value != b"application/json" and JSON_TYPE.fullmatch(value) is None:
                raise UnsupportedMediaType("The body must be application/json.")
        elif name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 20 else -1
        elif name == b"min-revision":
            is_minimum_asked = True
        elif name == b"x-request-id" and given_id is None:
            given_id = value
    return length, is_minimum_asked, given_id


# What is kept here is a function of its arguments alone, so it can't go stale; at most some 600 bytes each.
@lru_cache(maxsize=ANSWERS_KEPT)
def _valid(key: KeyRecord, consumer: ConsumerRecord) -> tuple[Headers, Message]:
    consumer_id, name, metadata, _ = consumer
    sub = encode_json(name)
    return _answer(
        b'{"valid":true,"code":"VALID","user":{"sub":%b,"data":%b},"consumer":{"id":"%b","name":%b},"key":{"id":"%b","expiresOn":%b}}' % (  # noqa: E501
            sub, metadata, consumer_id.encode(), sub, key.key_id.encode(),
            b"null" if key.expires_at is None else b'"%b"' % models.to_iso(models.from_millis(key.expires_at)).encode(),
        )
    )  # fmt: skip


@lru_cache(maxsize=ANSWERS_KEPT)
def _valid_v2(key: KeyRecord, consumer: ConsumerRecord) -> tuple[Headers, Message]:
    powers = key.powers or NO_POWERS
    document = {
        "valid": True,
        "code": Verdict.VALID,
        "user": {"sub": consumer.name, "data": msgspec.Raw(consumer.metadata)},
        "consumer": {"id": consumer.consumer_id, "name": consumer.name},
        "key": {
            "id": key.key_id,
            "expiresOn": None if key.expires_at is None else models.to_iso(models.from_millis(key.expires_at)),
            "metadata": msgspec.Raw(powers.metadata or b"{}"),
        },
        "scopes": list_granted(powers, consumer.powers or NO_POWERS),
        "limits": (),
    }
    return _answer(encode_json(document))


def _with_limits(answer: Message, limits: Sequence[LimitState], asked: Result | None) -> tuple[Headers, Message]:
    """The same answer, in whose last member no limit is said so far; and what was reserved, where that was `asked`."""
    body: bytes = answer["body"]
    told = body.removesuffix(b"[]}") + encode_json([state.to_json() for state in limits])
    if asked is not None:
        reservation = None
        if type(asked) is Reserved:
            ends = models.to_iso(models.from_millis(asked.reservation.expires_at))
            reservation = {"token": asked.token, "expiresOn": ends}
        told += b',"reservation":' + encode_json(reservation)
    return _answer(told + b"}")


def _limited(verdict: Verdict, limits: Sequence[LimitState]) -> tuple[Headers, Message]:
    document = {
        "valid": False,
        "code": verdict,
        "limits": [state.to_json() for state in limits],
        "violated": violated(limits),
        "retryAfterSeconds": find_retry_seconds(limits),
    }
    return _answer(encode_json(document))


def _answer(body: bytes) -> tuple[Headers, Message]:
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
    ]
    return headers, {"type": "http.response.body", "body": body}
