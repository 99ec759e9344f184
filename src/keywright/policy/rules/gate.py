"""Owns the policy itself: its options, what they mean for a request, and what a verdict comes to.

The adapters (asgi.py, wsgi.py, fastapi.py, drf.py) find the parts of a request and carry out what the Gate says. Where
the verdicts come from is the source's business: anything with `validate(secret, bucket)`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypedDict, cast
from urllib.parse import parse_qsl

from keywright.domain.identity_headers import ALL_IDENTITY_HEADERS
from keywright.domain.powers import Demand
from keywright.domain.problems import ServiceUnavailable
from keywright.domain.verdict import Lacking, Reserved, Verdict
from keywright.http.credentials import DEFAULT_HEADER, DEFAULT_SCHEME, AuthHeader, Fault
from keywright.http.rate_limit_fields import rate_limit_fields
from keywright.http.sparing_log import SparingLog
from keywright.policy.rules import demands, sources, stand_ins
from keywright.policy.rules.charges import NO_CHARGE, Charge, checked_use
from keywright.policy.rules.clients import AppClients
from keywright.policy.rules.exempt_paths import ExemptPaths
from keywright.policy.rules.identity import NO_CREDENTIAL, UNTOLD, Anonymous, Credential, User, credential_of
from keywright.policy.rules.route_tags import RouteTags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from keywright.domain.limit_states import LimitState
    from keywright.domain.powers import FindAddress
    from keywright.domain.problems import Problem
    from keywright.domain.verdict import Result
    from keywright.policy.rules.charges import Settlement
    from keywright.policy.rules.sources import Source, SourceFactory

_log = logging.getLogger(__name__)

FORGEABLE_HEADERS = frozenset(name.encode() for name in ALL_IDENTITY_HEADERS)
"""Identity as gateways pass it on: whoever sends it past a gateway made it up. Adapters take it out of the request."""
GATE = "keywright.gate"
"""Where the scope of ASGI, or the environ of WSGI, has the gate that a request has come through."""
MAX_QUERY_FIELDS = 1000
TELL_SECONDS = 60.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SCHEME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]*")
_QUIET = Anonymous("EXEMPT")
NO_ROUTES: Mapping[str, str] = {}


class Options(TypedDict, total=False):
    """The policy's options, the same in every adapter. See docs/reference/policy.md."""

    bucket_name: Required[str]
    auth_header: str
    auth_scheme: str
    allow_unauthenticated_requests: bool
    exempt_paths: Sequence[str]
    allow_cors_preflight: bool
    query_parameter: str | None
    scopes: Sequence[str]
    client_address: str | None
    trusted_proxies: Sequence[str]
    cost: int | None
    peek: bool
    routes: Mapping[str, str]


class Request(NamedTuple):
    """What of a request the policy looks at. `path` is decoded, without what the application is mounted under."""

    path: str
    auth_values: Sequence[bytes]
    query: bytes
    is_preflight: bool
    """Whether it is an OPTIONS with `Origin` and `Access-Control-Request-Method`."""
    find_address: FindAddress | None = None
    """What finds the client's address, where the policy is to know it."""


class Refused(Exception):
    """The answer is `problem`, and the application isn't asked. `code` as in Anonymous, or UNAVAILABLE, NO_BUCKET."""

    def __init__(self, code: str, problem: Problem) -> None:
        super().__init__(code)
        self.code = code
        self.problem = problem


def limit_fields(user: User | Anonymous) -> dict[str, str]:
    """What the answer to a request that was let in tells of its key's limits: fields, names in lower case."""
    return rate_limit_fields(user.limits) if isinstance(user, User) and user.limits else {}


class MustWait(Exception):
    """Quotas must be lent first: `check_async` waits for that."""


class Gate:
    """The policy before one application (or one part of it)."""

    def __init__(
        self,
        source: Source | SourceFactory,
        *,
        bucket_name: str,
        auth_header: str = DEFAULT_HEADER,
        auth_scheme: str = DEFAULT_SCHEME,
        allow_unauthenticated_requests: bool = False,
        exempt_paths: Sequence[str] = (),
        allow_cors_preflight: bool = False,
        query_parameter: str | None = None,
        scopes: Sequence[str] = (),
        client_address: str | None = None,
        trusted_proxies: Sequence[str] = (),
        cost: int | None = None,
        peek: bool = False,
        routes: Mapping[str, str] = NO_ROUTES,
    ) -> None:
        """A function as `source` is called when the source is first needed, and may read the configuration then.

        Raises TypeError, ValueError.
        """
        if not bucket_name:
            raise ValueError("bucket_name is empty")
        if _HEADER_NAME.fullmatch(auth_header) is None:
            raise ValueError(f"auth_header is no name of a header: {auth_header!r}")
        if _SCHEME.fullmatch(auth_scheme) is None:
            raise ValueError(f"auth_scheme is no scheme: {auth_scheme!r}")
        self.header = AuthHeader(auth_header, auth_scheme)
        self.auth_scheme = auth_scheme
        self.query_parameter = query_parameter
        self._bucket_name = bucket_name
        self._lets_all_in = allow_unauthenticated_requests
        self._allows_preflight = allow_cors_preflight
        self._exempt_paths = ExemptPaths(exempt_paths)
        self._has_exemptions = bool(self._exempt_paths) or allow_cors_preflight
        self._scopes = demands.checked(scopes)
        self._charge = Charge.of(cost, None, peek=peek)
        if client_address is None and trusted_proxies:
            raise ValueError("trusted_proxies needs a client_address: the header in which they tell it")
        self._routes = RouteTags(routes)
        self.clients = None if client_address is None else AppClients(client_address, trusted_proxies)
        self._no_address_log, self._no_bucket_log = SparingLog(_log, time.monotonic), SparingLog(_log, time.monotonic)
        self._failed_at = -math.inf
        self._given: Source | SourceFactory = source
        self._source: Source | None = None
        sources.is_source(source)
        stand_ins.register(self)
        self.use(stand_ins.current)

    def use(self, stand_in: Source | None) -> None:
        """Ask this source, in place of that which was given; None gives that its place back."""
        source = stand_in
        if source is None and sources.is_source(self._given):
            source = cast("Source", self._given)
        self._use(source)

    def _use(self, source: Source | None) -> None:
        self._takes_demands = False
        takes_more = self._charge is not NO_CHARGE
        if source is not None and (self._scopes or self._routes or self.clients is not None or takes_more):
            self._check_taker(source)
        self._source = source
        self._validate: Callable[..., Result] = self._validate_first if source is None else source.validate
        self._validate_async: Callable[..., Awaitable[Result]] | None = getattr(source, "validate_async", None)
        self._settle_here: Callable[..., Result] | None = getattr(source, "settle_here", None)
        self._settle_later: Callable[..., Awaitable[Result]] | None = getattr(source, "settle", None)
        self._is_open = source is not None and not hasattr(source, "open")

    @property
    def is_immediate(self) -> bool:
        """Whether `check` will not hold up an event loop."""
        return self._is_open and self._validate_async is None

    def check(
        self, request: Request, scopes: Iterable[str] = (), charge: Charge = NO_CHARGE, *, waits: bool = True
    ) -> tuple[User | Anonymous, Credential]:
        """Who is let in. Raises Refused; without `waits` MustWait, where an event loop would be held up.

        `scopes` are those that a route demands by itself, of a key and so of somebody: nobody is let in there, whatever
        is exempt, or let through unauthenticated. `charge` is what it takes, in place of what the policy does. Raises
        TypeError, ValueError where they, or the source, won't do.
        """
        if self._has_exemptions and not scopes and self._is_exempt(request):
            return _QUIET, NO_CREDENTIAL
        wanted = self._demanded(scopes)
        try:
            secret = self._find_secret(request)
            asked = self._question(secret, wanted, request, charge)
            result = self._validate(*asked)
            if type(result) is Lacking:
                if not waits:
                    raise MustWait
                if self._settle_here is not None:
                    result = self._settle_here(result, *asked)
            return self._admit(result, request, wanted)
        except Refused as refused:
            return self._settle(refused, scopes), NO_CREDENTIAL

    async def check_async(
        self, request: Request, scopes: Iterable[str] = (), charge: Charge = NO_CHARGE
    ) -> tuple[User | Anonymous, Credential]:
        """Who is let in, without holding up the event loop. Raises as `check` does."""
        if self._has_exemptions and not scopes and self._is_exempt(request):
            return _QUIET, NO_CREDENTIAL
        wanted = self._demanded(scopes)
        try:
            secret = self._find_secret(request)
            if not self._is_open:
                await self._open_late()
            asked = self._question(secret, wanted, request, charge)
            if self._validate_async is not None:
                return self._admit(await self._validate_async(*asked), request, wanted)
            result = self._validate(*asked)
            if type(result) is Lacking and self._settle_later is not None:
                result = await self._settle_later(result, *asked)
            return self._admit(result, request, wanted)
        except Refused as refused:
            return self._settle(refused, scopes), NO_CREDENTIAL

    def require(self, user: object, scopes: tuple[str, ...]) -> None:
        """Refuse a user that `check` has let in and whose key is not good for these scopes, too. Raises Refused."""
        if not isinstance(user, User):
            raise Refused(Fault.MISSING, self.missing)
        if user.has_scopes(*scopes):
            return
        if user._powers[0] is UNTOLD:
            raise _unavailable(Verdict.UNAVAILABLE)
        raise self._refused(Verdict.INSUFFICIENT_SCOPE, scopes)

    @property
    def missing(self) -> Problem:
        """The answer to a request without a key."""
        return self.header.refuse(Fault.MISSING, self._bucket_name)

    @property
    def openapi_scheme(self) -> dict[str, str]:
        """The security scheme object of an OpenAPI document."""
        header, scheme = self.header.name.decode(), self.auth_scheme
        if header == DEFAULT_HEADER and scheme:
            return {"type": "http", "scheme": scheme.lower()}
        # OpenAPI knows schemes in Authorization only; elsewhere the scheme is part of the value.
        described = {"description": f"The key, after `{scheme} `."} if scheme else {}
        return {"type": "apiKey", "in": "header", "name": header, **described}

    async def open(self) -> None:
        """Open the source if it wants that. It may take a while, which is none of the event loop's time.

        Raises what a source raises that can't be opened, RuntimeError on another event loop than asyncio's.
        """
        _require_asyncio()
        if self._source is None:
            self._use(await asyncio.to_thread(self._make))
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

    async def _open_late(self) -> None:
        """At a request, where no lifespan has done so. Raises Refused."""
        _require_asyncio()
        try:
            await self.open()
        except Exception as error:
            now = time.monotonic()
            if now - self._failed_at > TELL_SECONDS:
                self._failed_at = now
                _log.exception("no key can be checked: the policy's source can't be opened")
            raise _unavailable(Verdict.UNAVAILABLE) from error

    async def settle(self, reservation: str | None, cost: int) -> Settlement | None:
        """What a reservation came to; None for none. Raises NotSettled, TypeError, ValueError."""
        settle = self._settler("settle_reservation", reservation, cost)
        settlement: Settlement | None = None if settle is None else await settle(reservation, cost)
        return settlement

    def settle_blocking(self, reservation: str | None, cost: int) -> Settlement | None:
        """The same for threads."""
        settle = self._settler("settle_reservation_here", reservation, cost)
        return None if settle is None else settle(reservation, cost)

    def _settler(self, name: str, reservation: str | None, cost: int) -> Callable[..., Any] | None:
        checked_use(cost)
        if reservation is None:
            # Of a key without quotas.
            return None
        found: Callable[..., Any] | None = getattr(self._source, name, None)
        if found is None:
            raise TypeError(f"{type(self._source).__name__} has no {name}: such a source reserves nothing")
        return found

    def _demanded(self, scopes: Iterable[str]) -> tuple[str, ...]:
        return demands.checked((*self._scopes, *scopes)) if scopes else self._scopes

    def _question(self, secret: str, scopes: tuple[str, ...], request: Request, charge: Charge) -> tuple[Any, ...]:
        route = self._routes.find(request.path) if self._routes else None
        if charge is NO_CHARGE:
            charge = self._charge
        if not scopes and request.find_address is None and route is None and charge is NO_CHARGE:
            return secret, self._bucket_name
        if not self._takes_demands and self._source is not None:
            self._check_taker(self._source)
        cost, is_peek, reserves = charge
        return secret, self._bucket_name, Demand(scopes, request.find_address, cost, is_peek, route, reserves)

    def _check_taker(self, source: Source) -> None:
        demands.require_taker(source)
        self._takes_demands = True

    def _make(self) -> Source:
        return sources.made_by(cast("SourceFactory", self._given))

    def _validate_first(self, *asked: Any) -> Result:
        source = self._make()
        self._use(source)
        if len(asked) > 2:
            self._check_taker(source)
        return source.validate(*asked)

    def split_joined(self, value: bytes) -> Sequence[bytes]:
        """The values of several headers, where a server has joined them by commas into one."""
        if b"," not in value or not self.auth_scheme:
            return [value]
        return re.split(rb",[ \t]*(?=%b[ \t])" % re.escape(self.auth_scheme.encode()), value, flags=re.IGNORECASE)

    def _is_exempt(self, request: Request) -> bool:
        return request.path in self._exempt_paths or (self._allows_preflight and request.is_preflight)

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

    def _admit(self, result: Result, request: Request, scopes: tuple[str, ...]) -> tuple[User, Credential]:
        code, key, consumer, limits = result
        if key is not None and consumer is not None:
            powers = (key.powers, consumer.powers)
            user = User(consumer.name, consumer.metadata, consumer.consumer_id, key.key_id, powers, limits)
            if isinstance(result, Reserved):
                user.reservation = result.token
            return user, credential_of(key)
        if code is Verdict.UNAVAILABLE or code is Verdict.NO_BUCKET:
            if code is Verdict.NO_BUCKET:
                why = f"there is no bucket {self._bucket_name!r}: every request with a key is refused"
                self._no_bucket_log.note(why, logging.ERROR)
            raise _unavailable(code)
        if code is Verdict.IP_NOT_ALLOWED and request.find_address is None:
            self._no_address_log.note("keys with allowedIps are refused: no address is known, see client_address")
        raise self._refused(code, scopes, limits)

    def _settle(self, refused: Refused, scopes: Iterable[str]) -> Anonymous:
        """Nobody is let in as nobody while it is unknown who they are, or where a route wants somebody."""
        if not self._lets_all_in or scopes or refused.problem.status != 401:
            raise refused
        return Anonymous(refused.code)

    def _refused(
        self, code: Fault | Verdict, scopes: tuple[str, ...] = (), limits: Sequence[LimitState] = ()
    ) -> Refused:
        return Refused(code, self.header.refuse(code, self._bucket_name, scopes, limits))


def _unavailable(code: Verdict) -> Refused:
    # The caller's key may be good, so this is no 401; and a bucket that isn't there is no mistake of theirs.
    return Refused(code, ServiceUnavailable("The key can't be checked now.", headers={"retry-after": "1"}))


def _require_asyncio() -> None:
    """Raises RuntimeError."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("the policy runs on asyncio only, and this server runs another event loop (trio?)") from None


def _values_in(query: bytes, name: str) -> list[str]:
    if not query:
        return []
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return []
    return [value for field, value in fields if field == name]
