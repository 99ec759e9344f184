"""Owns the door for programs: POST /v1/validate/{bucketName}, a key in a JSON body, the verdict in the answer.

This is the hot path of the service, so it is one function that does little: no routing table, no request object, and
the consumer's metadata goes out as the bytes that came in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from keywright.core import models
from keywright.core.problems import (
    BadRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    Problem,
    UnsupportedMediaType,
)  # fmt: skip
from keywright.core.verdict import Verdict
from keywright.edge import http
from keywright.edge.min_revision import WAIT_SECONDS, MinRevision

if TYPE_CHECKING:
    from keywright.core.verdict import ConsumerRecord, KeyRecord
    from keywright.edge.http import Receive, Scope, Send
    from keywright.edge.validator import Validator

PREFIX = "/v1/validate/"
MAX_BODY_BYTES = 64 * 1024
_JSON = re.compile(rb"application/(?:[a-z0-9.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_encode = http.encode_json


class _Question(msgspec.Struct):
    key: str


_decode = msgspec.json.Decoder(_Question).decode


class ValidateApi:
    """ASGI for requests whose path begins with PREFIX. `counts` tells how often each verdict was given."""

    def __init__(
        self, validator: Validator, *, token_required: bool = False, min_revision_seconds: float = WAIT_SECONDS
    ) -> None:
        self._validator = validator
        self._min_revision = MinRevision(validator, min_revision_seconds)
        self._validate = validator.validate
        self._token_required = token_required
        self.valid_count = 0
        self.counts: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._answer(scope, receive)
        except Problem as problem:
            await http.send_problem(scope, send, problem)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise MethodNotAllowed("A key is validated by POST.", headers={"allow": "POST"})
        bucket = http.find_bucket_name(scope, PREFIX)
        if bucket is None:
            raise http.no_bucket()
        length, is_minimum_asked = _read_headers(scope)
        if self._token_required:
            http.require_token(self._validator, scope, bucket)
        if length > MAX_BODY_BYTES:
            raise _too_large()
        if is_minimum_asked:
            await self._min_revision.reach(scope)
        message = await receive()
        data = message.get("body", b"")
        # Granian says that more may come even where the whole body is there.
        if message.get("more_body", False) and len(data) != length:
            data = await _read_on(data, receive)
        if len(data) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            secret = _decode(data).key
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_body(error) from None
        verdict, key, consumer = self._validate(secret, bucket)
        if key is not None and consumer is not None:
            self.valid_count += 1
            return _valid(key, consumer)
        self.counts[verdict] = self.counts.get(verdict, 0) + 1
        if verdict is Verdict.NO_BUCKET:
            raise http.no_bucket()
        if verdict is Verdict.UNAVAILABLE:
            raise http.not_ready()
        return b'{"valid":false,"code":"%b"}' % verdict.encode()


def _read_headers(scope: Scope) -> tuple[int, bool]:
    """The length that the body is said to have, -1 if it isn't, and whether there is a Min-Revision.

    Raises UnsupportedMediaType for another type than JSON. A body of no declared type is taken for JSON, which is what
    it is decoded as anyway.
    """
    length = -1
    is_minimum_asked = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value != b"application/json" and _JSON.fullmatch(value) is None:
                raise UnsupportedMediaType("The body must be application/json.")
        elif name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 20 else -1
        elif name == b"min-revision":
            is_minimum_asked = True
    return length, is_minimum_asked


def _valid(key: KeyRecord, consumer: ConsumerRecord) -> bytes:
    consumer_id, name, metadata = consumer
    sub = _encode(name)
    return b'{"valid":true,"code":"VALID","user":{"sub":%b,"data":%b},"consumer":{"id":"%b","name":%b},"key":{"id":"%b","expiresOn":%b}}' % (  # noqa: E501
        sub, metadata, consumer_id.encode(), sub, key.key_id.encode(),
        b"null" if key.expires_at is None else b'"%b"' % models.to_iso(models.from_millis(key.expires_at)).encode(),
    )  # fmt: skip


async def _read_on(data: bytes, receive: Receive) -> bytes:
    parts, length = [data], len(data)
    while length <= MAX_BODY_BYTES:
        message = await receive()
        part = message.get("body", b"")
        parts.append(part)
        length += len(part)
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _too_large() -> Problem:
    return PayloadTooLarge(f"The body may have {MAX_BODY_BYTES} bytes.")


def _bad_body(error: Exception) -> Problem:
    """The error's own text stays here: it could repeat a piece of the body, and so of a secret."""
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest("The body is not JSON.", errors=[{"field": "body", "message": "must be valid JSON"}])
    text = str(error)
    if "$.key" in text:
        field, message = "body.key", "must be a string"
    elif "missing required field" in text:
        field, message = "body.key", "is required"
    else:
        field, message = "body", "must be a JSON object"
    return BadRequest(
        "The body must be an object with the key to validate.", errors=[{"field": field, "message": message}]
    )
