"""Owns the policy itself: its options, what they mean for a request, and what a verdict comes to.

The adapters (asgi.py, wsgi.py, fastapi.py, drf.py) find the parts of a request and carry out what the Gate says. Where
the verdicts come from is the source's business: anything with `validate(secret, bucket)`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, Required, TypedDict
from urllib.parse import parse_qsl

from keywright.domain.identity_headers import IDENTITY_HEADERS
from keywright.domain.problems import ServiceUnavailable
from keywright.domain.verdict import Verdict
from keywright.http.credentials import DEFAULT_HEADER, DEFAULT_SCHEME, AuthHeader, Fault
from keywright.policy.rules.identity import NO_CREDENTIAL, Anonymous, Credential, User, credential_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from keywright.domain.problems import Problem
    from keywright.domain.verdict import Result

_log = logging.getLogger(__name__)

FORGEABLE_HEADERS = frozenset(name.encode() for name in IDENTITY_HEADERS)
"""Identity as gateways pass it on: whoever sends it past a gateway made it up. Adapters take it out of the request."""
MAX_QUERY_FIELDS = 1000
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SCHEME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]*")
_QUIET = Anonymous("EXEMPT")


class Source(Protocol):
    """Where verdicts come from. It may have more, which is used where it is there:

    `validate_async`, the same to be awaited: adapters with an event loop prefer it. A `validate` must not block a loop.
    `open` and `close` (or `close_async`), called before the first question and at the end of the application.
    """

    def validate(self, secret: str, bucket: str) -> Result: ...


class Options(TypedDict, total=False):
    """The policy's options, the same in every adapter. See docs/reference/policy.md."""

    bucket_name: Required[str]
    auth_header: str
    auth_scheme: str
    allow_unauthenticated_requests: bool
    exempt_paths: Sequence[str]
    allow_cors_preflight: bool
    query_parameter: str | None


class Request(NamedTuple):
    """What of a request the policy looks at. `path` is decoded, without what the application is mounted under."""

    path: str
    auth_values: Sequence[bytes]
    query: bytes
    is_preflight: bool
    """Whether it is an OPTIONS with `Origin` and `Access-Control-Request-Method`."""


class Refused(Exception):
    """The answer is `problem`, and the application isn't asked. `code` as in Anonymous, or UNAVAILABLE, NO_BUCKET."""

    def __init__(self, code: str, problem: Problem) -> None:
        super().__init__(code)
        self.code = code
        self.problem = problem


class Gate:
    """The policy before one application (or one part of it)."""

    def __init__(
        self,
        source: Source,
        *,
        bucket_name: str,
        auth_header: str = DEFAULT_HEADER,
        auth_scheme: str = DEFAULT_SCHEME,
        allow_unauthenticated_requests: bool = False,
        exempt_paths: Sequence[str] = (),
        allow_cors_preflight: bool = False,
        query_parameter: str | None = None,
    ) -> None:
        if not callable(getattr(source, "validate", None)):
            raise TypeError("the source of a policy has validate(secret, bucket)")
        if inspect.iscoroutinefunction(source.validate):
            raise TypeError("validate is a plain function; one to be awaited is called validate_async")
        if not bucket_name:
            raise ValueError("bucket_name is empty")
        if _HEADER_NAME.fullmatch(auth_header) is None:
            raise ValueError(f"auth_header is no name of a header: {auth_header!r}")
        if _SCHEME.fullmatch(auth_scheme) is None:
            raise ValueError(f"auth_scheme is no scheme: {auth_scheme!r}")
        self.header = AuthHeader(auth_header, auth_scheme)
        self.auth_scheme = auth_scheme
        self.query_parameter = query_parameter
        self._source = source
        self._bucket_name = bucket_name
        self._lets_all_in = allow_unauthenticated_requests
        self._allows_preflight = allow_cors_preflight
        self._paths, self._prefixes = _parse_paths(exempt_paths)
        self._has_exemptions = bool(exempt_paths) or allow_cors_preflight
        self._validate = source.validate
        self._validate_async: Callable[[str, str], Awaitable[Result]] | None = getattr(source, "validate_async", None)
        self._is_open = not hasattr(source, "open")
        self._has_logged = False

    @property
    def is_immediate(self) -> bool:
        """Whether `check` will not hold up an event loop."""
        return self._is_open and self._validate_async is None

    def check(self, request: Request) -> tuple[User | Anonymous, Credential]:
        """Who is let in. Raises Refused."""
        if self._has_exemptions and self._is_exempt(request):
            return _QUIET, NO_CREDENTIAL
        try:
            return self._admit(self._validate(self._find_secret(request), self._bucket_name))
        except Refused as refused:
            return self._settle(refused), NO_CREDENTIAL

    async def check_async(self, request: Request) -> tuple[User | Anonymous, Credential]:
        """Who is let in, without holding up the event loop. Raises Refused."""
        if self._has_exemptions and self._is_exempt(request):
            return _QUIET, NO_CREDENTIAL
        try:
            secret = self._find_secret(request)
            if not self._is_open:
                await self.open()
            if self._validate_async is not None:
                return self._admit(await self._validate_async(secret, self._bucket_name))
            return self._admit(self._validate(secret, self._bucket_name))
        except Refused as refused:
            return self._settle(refused), NO_CREDENTIAL

    @property
    def missing(self) -> Problem:
        """The answer to a request without a key."""
        return self.header.refuse(Fault.MISSING, self._bucket_name)

    async def open(self) -> None:
        """Open the source if it wants that. It may take a while, which is none of the event loop's time."""
        opening = getattr(self._source, "open", None)
        if opening is not None:
            await asyncio.to_thread(opening)
        self._is_open = True

    async def close(self) -> None:
        closing = getattr(self._source, "close_async", None)
        if closing is not None:
            await closing()
            return
        closing = getattr(self._source, "close", None)
        if closing is not None:
            self._is_open = False
            await asyncio.to_thread(closing)

    def split_joined(self, value: bytes) -> Sequence[bytes]:
        """The values of several headers, where a server has joined them by commas into one."""
        if b"," not in value or not self.auth_scheme:
            return [value]
        return re.split(rb",[ \t]*(?=%b[ \t])" % re.escape(self.auth_scheme.encode()), value, flags=re.IGNORECASE)

    def _is_exempt(self, request: Request) -> bool:
        if request.path in self._paths:
            return True
        if self._prefixes and request.path.startswith(self._prefixes) and _is_plain(request.path):
            return True
        return self._allows_preflight and request.is_preflight

    def _find_secret(self, request: Request) -> str:
        """The one secret in the request. Raises Refused when there is none, or more than one."""
        values = request.auth_values
        if len(values) > 1:
            raise self._refused(Fault.AMBIGUOUS)
        found = self.header.find_secret(values[0]) if values else None
        if self.query_parameter is not None:
            shown = _values_in(request.query, self.query_parameter)
            if len(shown) + (found is not None) > 1:
                raise self._refused(Fault.AMBIGUOUS)
            if shown and shown[0]:
                return shown[0]
        if found is None:
            raise self._refused(Fault.MISSING)
        return found.decode("latin-1")

    def _admit(self, result: Result) -> tuple[User, Credential]:
        code, key, consumer = result
        if key is not None and consumer is not None:
            user = User(consumer.name, consumer.metadata, consumer.consumer_id, key.key_id)
            return user, credential_of(key)
        if code is Verdict.UNAVAILABLE or code is Verdict.NO_BUCKET:
            if code is Verdict.NO_BUCKET and not self._has_logged:
                self._has_logged = True
                _log.error("there is no bucket %r: every request with a key is refused", self._bucket_name)
            # The caller's key may be good, so this is no 401; and a bucket that isn't there is no mistake of theirs.
            raise Refused(code, ServiceUnavailable("The key can't be checked now.", headers={"retry-after": "1"}))
        raise self._refused(code)

    def _settle(self, refused: Refused) -> Anonymous:
        """Nobody is let in as nobody while it is unknown who they are."""
        if not self._lets_all_in or refused.problem.status != 401:
            raise refused
        return Anonymous(refused.code)

    def _refused(self, code: Fault | Verdict) -> Refused:
        return Refused(code, self.header.refuse(code, self._bucket_name))


def _parse_paths(paths: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Paths as they are, and those that end with `/*` as prefixes."""
    if isinstance(paths, str):
        raise TypeError("exempt_paths is a list of paths, not one")
    for path in paths:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError(f"an exempt path begins with / and may end with /*: {path!r}")
    whole = frozenset(path for path in paths if not path.endswith("/*"))
    return whole, tuple(path[:-1] for path in paths if path.endswith("/*"))


def _is_plain(path: str) -> bool:
    """Whether the path means the same to whoever tidies paths up: `/public/../private` is not below `/public/`."""
    if "\\" in path or "%" in path:
        return False
    return not any(part in ("", ".", "..") for part in path[1:].removesuffix("/").split("/"))


def _values_in(query: bytes, name: str) -> list[str]:
    if not query:
        return []
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return []
    return [value for field, value in fields if field == name]
