"""Owns the door for gateways: ANY /v1/forward-auth/{bucketName}, the key in a header of the request they ask about.

For nginx auth_request, Traefik ForwardAuth, Caddy forward_auth and Envoy's ext_authz over HTTP, which puts the path
that it asks about behind ours. Whatever the answer is, it has all the identity headers, empty ones unless the key is
valid: some gateways copy what they get and leave alone what they don't get, so that a header which the client made up
would pass. `judge` is the same without HTTP, for ext_authz.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never
from urllib.parse import quote_from_bytes

from keywright.core.problems import Problem, Unauthorized
from keywright.core.verdict import Verdict
from keywright.edge import http
from keywright.edge.min_revision import WAIT_SECONDS, MinRevision

if TYPE_CHECKING:
    from keywright.core.verdict import Result
    from keywright.edge.http import Receive, Scope, Send
    from keywright.edge.identity_token import IdentitySigner
    from keywright.edge.validator import Validator

PREFIX = "/v1/forward-auth/"
_EMPTY_BODY = [(b"content-length", b"0"), (b"cache-control", b"no-store")]
_NO_IDENTITY = [
    (b"x-consumer-name", b""),
    (b"x-consumer-id", b""),
    (b"x-key-id", b""),
    (b"x-consumer-metadata", b""),
    (b"x-consumer-token", b""),
]


class ForwardAuth:
    """ASGI for requests whose path begins with PREFIX; any method, and the body is ignored.

    `auth_header` is where the key is, after `auth_scheme` (in any case) and one space; "" for the bare header.
    """

    def __init__(
        self,
        validator: Validator,
        *,
        auth_header: str = "authorization",
        auth_scheme: str = "Bearer",
        token_required: bool = False,
        min_revision_seconds: float = WAIT_SECONDS,
        signer: IdentitySigner | None = None,
    ) -> None:
        self._validator = validator
        self._min_revision = MinRevision(validator, min_revision_seconds)
        self._signer = signer
        self.auth_header = auth_header.lower()
        self._header = self.auth_header.encode("ascii")
        self._scheme = auth_scheme.lower().encode("ascii")
        # A bare header has no registered scheme; RFC 9110 section 11.6.1 wants a challenge all the same.
        self._challenge = auth_scheme or "ApiKey"
        self._token_required = token_required
        self.valid_count = 0
        self.counts: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            values = []
            is_minimum_asked = False
            for name, value in scope["headers"]:
                if name == self._header:
                    values.append(value)
                elif name == b"min-revision":
                    is_minimum_asked = True
            if is_minimum_asked:
                await self._min_revision.reach(scope)
            headers = self._answer(scope, values)
        except Problem as problem:
            await http.send_problem(scope, send, problem, _NO_IDENTITY)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*_EMPTY_BODY, *headers]})
        await send({"type": "http.response.body", "body": b""})

    def require_token(self, scope: Scope, bucket: str) -> None:
        """Raise Forbidden if a token of the gateway's own is wanted and missing."""
        if self._token_required:
            http.require_token(self._validator, scope, bucket)

    def judge(self, bucket: str, values: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Who asks, as headers. `values` are all headers with a key that the request has. Raises Problem."""
        credentials = self._find_credentials(values[0]) if len(values) == 1 else None
        # Without credentials there is still the bucket to look for, which a text that is too short does.
        result = self._validator.validate((credentials or b"").decode("latin-1"), bucket)
        key, consumer = result.key, result.consumer
        if key is not None and consumer is not None:
            self.valid_count += 1
            return [
                (b"x-consumer-name", consumer.name.encode()),
                (b"x-consumer-id", consumer.consumer_id.encode()),
                (b"x-key-id", key.key_id.encode()),
                (b"x-consumer-metadata", _percent_encode(consumer.metadata)),
                (b"x-consumer-token", self._signer.sign(bucket, key, consumer) if self._signer else b""),
            ]
        raise self._refusal(result, bucket, len(values), has_credentials=credentials is not None)

    def _answer(self, scope: Scope, values: list[bytes]) -> list[tuple[bytes, bytes]]:
        bucket = http.find_bucket_name(scope, PREFIX, has_rest=True)
        if bucket is None:
            raise http.no_bucket()
        self.require_token(scope, bucket)
        return self.judge(bucket, values)

    def _find_credentials(self, value: bytes) -> bytes | None:
        """What follows the scheme; None when there is none, or another scheme's."""
        length = len(self._scheme)
        if not length:
            return value or None
        if value[:length].lower() != self._scheme or value[length : length + 1] not in (b" ", b"\t"):
            return None
        # More spaces, and tabs, are left in: no key has them, so they are refused as malformed.
        return value[length + 1 :] or None

    def _refusal(self, result: Result, bucket: str, header_count: int, *, has_credentials: bool) -> Problem:
        verdict = result.verdict
        if verdict is Verdict.NO_BUCKET:
            self._count(verdict)
            return http.no_bucket()
        if verdict is Verdict.UNAVAILABLE:
            self._count(verdict)
            return http.not_ready()
        if header_count > 1:
            self._count("AMBIGUOUS")
            # RFC 6750 section 3.1 says 400 here; gateways take every other answer than 401 and 403 for a fault of ours.
            return self._unauthorized("There is more than one header with a key.", 'error="invalid_request"')
        if not has_credentials:
            self._count("MISSING")
            # RFC 6750 section 3.1: no error code where no credentials were shown.
            return self._unauthorized("There is no key in the request.", f'realm="{bucket}"')
        self._count(verdict)
        return self._unauthorized(_reason(verdict), 'error="invalid_token"')

    def _unauthorized(self, detail: str, parameters: str) -> Problem:
        return Unauthorized(detail, headers={"www-authenticate": f"{self._challenge} {parameters}"})

    def _count(self, code: str) -> None:
        self.counts[code] = self.counts.get(code, 0) + 1


def _reason(verdict: Verdict) -> str:
    match verdict:
        case Verdict.MALFORMED:
            return "The key is malformed."
        case Verdict.UNKNOWN:
            return "The key is unknown."
        case Verdict.EXPIRED:
            return "The key has expired."
        case Verdict.VALID | Verdict.NO_BUCKET | Verdict.UNAVAILABLE:
            raise AssertionError(verdict)
        case _:
            assert_never(verdict)


_ENCODED = [quote_from_bytes(bytes([byte]), safe="").encode() for byte in range(256)]


def _percent_encode(metadata: bytes) -> bytes:
    # Twice as fast as quote_from_bytes itself, which goes through text.
    return b"".join([_ENCODED[byte] for byte in metadata])
