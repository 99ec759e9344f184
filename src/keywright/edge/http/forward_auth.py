"""Owns the endpoint for gateways: ANY /v1/forward-auth/{bucketName}, the key in a header of the request they ask about.

For nginx auth_request, Traefik ForwardAuth, Caddy forward_auth and Envoy's ext_authz over HTTP, which puts the path
that it asks about behind ours. What a route demands beyond a good key stands in the bucket's segment (question.py).
Whatever the answer is, it has all the identity headers, empty ones unless the key is valid: some gateways copy what
they get and leave alone what they don't get, so that a header which the client made up would pass. `judge` is the same
without HTTP, for edge/grpc.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from keywright.domain.identity_headers import IDENTITY_HEADERS, IdentityHeaders
from keywright.domain.powers import NO_POWERS, Demand, list_granted
from keywright.domain.problems import Problem
from keywright.domain.verdict import Lacking, Verdict
from keywright.edge.gateway_clients import GatewayClients
from keywright.edge.http.endpoint import (
    find_bucket_name,
    no_bucket,
    not_ready,
    require_token,
    send_failure,
    send_problem,
)
from keywright.edge.http.min_revision import WAIT_SECONDS, MinRevision
from keywright.edge.http.questions.question import Question, parse_question
from keywright.edge.http.validation_counts import ValidationCounts
from keywright.http.client_address import ClientAddresses
from keywright.http.credentials import DEFAULT_HEADER, DEFAULT_SCHEME, AuthHeader, Fault
from keywright.http.rate_limit_fields import rate_limit_fields
from keywright.http.request_id import request_id
from keywright.runtime.clock import Clock
from keywright.runtime.metrics.histogram import now_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from keywright.domain.powers import FindAddress
    from keywright.domain.verdict import Result
    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.identity_token import IdentitySigner
    from keywright.edge.validator import Validator

Headers = list[tuple[bytes, bytes]]
PREFIX = "/v1/forward-auth/"
_new = tuple.__new__
_EMPTY_BODY = [(b"content-length", b"0"), (b"cache-control", b"no-store")]


class MustWait(Exception):
    """Quotas must be lent first: `settled`, to be awaited once, gives the verdict then."""

    def __init__(self, settled: Awaitable[Result]) -> None:
        super().__init__()
        self.settled = settled


class ForwardAuth:
    """ASGI for requests whose path begins with PREFIX; any method, and the body is ignored.

    `auth_header` and `auth_scheme` say where the key is (http/credentials.py); `identity_headers` are what is told of
    its consumer; `clients` knows the addresses of those for whom gateways ask.
    """

    def __init__(
        self,
        validator: Validator,
        *,
        auth_header: str = DEFAULT_HEADER,
        auth_scheme: str = DEFAULT_SCHEME,
        identity_headers: IdentityHeaders = IDENTITY_HEADERS,
        token_required: bool = False,
        min_revision_seconds: float = WAIT_SECONDS,
        signer: IdentitySigner | None = None,
        clients: GatewayClients | None = None,
    ) -> None:
        # Without any no header is believed.
        self.clients = clients or GatewayClients(ClientAddresses(), Clock().elapsed)
        self._find_client = self.clients.find_in
        self._validator = validator
        self.auth_header = auth_header.lower()
        self._header = AuthHeader(auth_header, auth_scheme)
        self._header_name = self._header.name
        *names, key_scopes, key_metadata = identity_headers
        self._identity_names = [name.encode() for name in names]
        self._key_scopes, self._key_metadata = key_scopes.encode(), key_metadata.encode()
        self._no_identity = [(name.encode(), b"") for name in identity_headers.told()]
        self._min_revision = MinRevision(validator, min_revision_seconds)
        self._signer = signer
        self._token_required = token_required
        self.counts = ValidationCounts(validator.knows_bucket)
        self._observe = self.counts.latency.observe_since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = now_ns()
        try:
            values = []
            is_minimum_asked = False
            given_id = None
            for name, value in scope["headers"]:
                if name == self._header_name:
                    values.append(value)
                elif name == b"min-revision":
                    is_minimum_asked = True
                elif name == b"x-request-id" and given_id is None:
                    given_id = value
            if is_minimum_asked:
                await self._min_revision.reach(scope)
                began = now_ns()
            try:
                headers = self._answer(scope, values)
            except MustWait as waiting:
                headers = self._answer(scope, values, await waiting.settled)
        except Problem as problem:
            await send_problem(scope, send, problem, self._no_identity)
            self._observe(began)
            return
        except Exception as error:  # noqa: BLE001
            self.counts.failures += 1
            await send_failure(scope, send, error, self._no_identity)
            self._observe(began)
            return
        id_header = (b"x-request-id", request_id(given_id))
        await send({"type": "http.response.start", "status": 200, "headers": [*_EMPTY_BODY, *headers, id_header]})
        await send({"type": "http.response.body", "body": b""})
        self._observe(began)

    def new_counts(self) -> ValidationCounts:
        """For another endpoint that asks `judge`."""
        return ValidationCounts(self._validator.knows_bucket)

    def require_token(self, scope: Scope, bucket: str) -> None:
        """Raise Forbidden if a token of the gateway's own is wanted and missing."""
        if self._token_required:
            require_token(self._validator, scope, bucket)

    def judge(
        self,
        question: Question,
        values: list[bytes],
        find_address: FindAddress,
        counts: ValidationCounts,
        settled: Result | None = None,
    ) -> tuple[Headers, Headers]:
        """Who asks, in the order of IdentityHeaders; and what is told the client itself, of the limits that hold.

        `values` are all headers with a key; `counts` are those of the endpoint that asks. Raises Problem, and MustWait:
        then it is asked again with what that was `settled` to, and only then counted.
        """
        bucket, (scopes, _, cost, is_peek, route, _) = question
        secret = self._header.find_secret(values[0]) if len(values) == 1 else None
        result = settled
        if result is None:
            # Without a secret there is still the bucket to look for, which a text that is too short does.
            demand = _new(Demand, (scopes, find_address, cost, is_peek, route, False))
            asked = (secret or b"").decode("latin-1"), bucket, demand
            result = self._validator.validate(*asked)
            if type(result) is Lacking:
                raise MustWait(self._validator.settle(result, *asked))
        key, consumer = result.key, result.consumer
        if key is not None and consumer is not None:
            if bucket in counts.valid:
                counts.valid[bucket] += 1
            else:
                counts.begin(bucket)
            name, consumer_id, key_id, metadata, token = self._identity_names
            identity = [
                (name, consumer.name.encode()),
                (consumer_id, consumer.consumer_id.encode()),
                (key_id, key.key_id.encode()),
                (metadata, _percent_encode(consumer.metadata)),
                (token, self._signer.sign(bucket, key, consumer) if self._signer else b""),
            ]
            if self._key_scopes:
                granted = list_granted(key.powers or NO_POWERS, consumer.powers or NO_POWERS)
                identity.append((self._key_scopes, " ".join(granted).encode()))
            if self._key_metadata:
                identity.append((self._key_metadata, _percent_encode((key.powers or NO_POWERS).metadata or b"{}")))
            limits = result.limits
            return identity, [(name.encode(), value.encode()) for name, value in rate_limit_fields(limits).items()]
        raise self._refusal(result, question, len(values), counts, has_secret=secret is not None)

    def _answer(self, scope: Scope, values: list[bytes], settled: Result | None = None) -> Headers:
        segment = find_bucket_name(scope, PREFIX, has_rest=True)
        if segment is None:
            raise no_bucket()
        question = parse_question(segment)
        self.require_token(scope, question.bucket)
        identity, fields = self.judge(question, values, partial(self._find_client, scope), self.counts, settled)
        return [*identity, *fields] if fields else identity

    def _refusal(
        self, result: Result, question: Question, header_count: int, counts: ValidationCounts, *, has_secret: bool
    ) -> Problem:
        code: Verdict | Fault = result.verdict
        if code is Verdict.NO_BUCKET:
            counts.refuse(question.bucket, code)
            return no_bucket()
        if code is Verdict.UNAVAILABLE:
            counts.refuse(question.bucket, code)
            return not_ready()
        if not has_secret:
            code = Fault.AMBIGUOUS if header_count > 1 else Fault.MISSING
        counts.refuse(question.bucket, code)
        return self._header.refuse(code, question.bucket, question.demand.scopes, result.limits)


_ENCODED = [quote_from_bytes(bytes([byte]), safe="").encode() for byte in range(256)]


def _percent_encode(metadata: bytes) -> bytes:
    # Twice as fast as quote_from_bytes itself, which goes through text.
    return b"".join([_ENCODED[byte] for byte in metadata])
