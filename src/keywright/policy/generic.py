"""Owns the policy for every framework that has no integration of its own: headers go in, a value comes out.

    policy = ApiKeyPolicy(source, bucket_name="my-bucket")

    checked = await policy.check(request.headers, path=request.path, method=request.method)
    if checked.refusal is not None:
        return Response(checked.refusal.body, checked.refusal.status, checked.refusal.headers)
    print(checked.user.sub)

What a client claims in `FORGEABLE_HEADERS` is still in the framework's own request: ask the user, never those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Unpack, cast

from keywright.domain.networks import parse_address
from keywright.http.client_address import plain
from keywright.http.problem_response import render
from keywright.http.request_id import request_id_of_text
from keywright.policy.rules.charges import Charge, NotSettled, Settlement
from keywright.policy.rules.gate import FORGEABLE_HEADERS, Gate, Options, Refused, Request, limit_fields
from keywright.policy.rules.identity import NO_CREDENTIAL, Anonymous, Credential, User

if TYPE_CHECKING:
    from keywright.domain.powers import FindAddress
    from keywright.policy.rules.sources import Source, SourceFactory

__all__ = [
    "FORGEABLE_HEADERS",
    "Anonymous",
    "ApiKeyPolicy",
    "Checked",
    "Credential",
    "NotSettled",
    "Refusal",
    "Settlement",
    "User",
]

Text = str | bytes
Headers = Mapping[str, str] | Iterable[tuple[Text, Text]]
"""A framework's own headers, as long as their `items()` has each of several of one name, or joins them by commas."""


class Refusal(NamedTuple):
    """The answer, whole: a problem document. `code` is a verdict's, or MISSING or AMBIGUOUS."""

    code: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Checked(NamedTuple):
    """Whom a request comes from, unless it is refused; then the user is an Anonymous."""

    user: User | Anonymous
    auth: Credential
    refusal: Refusal | None

    @property
    def headers(self) -> dict[str, str]:
        """What the answer to a request that is let in tells of its key's limits, names in lower case."""
        return limit_fields(self.user)


class ApiKeyPolicy:
    """Checks headers. The framework's integration is yours, and so is what it does with what comes out."""

    def __init__(self, source: Source | SourceFactory, **options: Unpack[Options]) -> None:
        self._gate = Gate(source, **options)

    async def check(
        self,
        headers: Headers,
        *,
        path: str = "/",
        query: Text = b"",
        method: str = "GET",
        scopes: Sequence[str] = (),
        address: str | None = None,
        cost: int | None = None,
        peek: bool = False,
        reserve: int | None = None,
    ) -> Checked:
        """For asyncio. `path` is decoded and `query` is not: what is behind the `?`, as it came.

        `scopes` are those that this route demands, `address` is the connection's, for keys that not every address may
        use: the client's own, unless `client_address` names the header in which a proxy tells it. Of the key's quotas
        `cost` is taken, `peek` takes nothing, and `reserve` what `settle` says later. Raises TypeError, ValueError.
        """
        request, request_id = self._read(headers, path, query, method, address)
        try:
            charge = Charge.of(cost, reserve, peek=peek)
            return Checked(*await self._gate.check_async(request, scopes, charge), None)
        except Refused as refused:
            return _refused(refused, path, request_id)

    def check_blocking(
        self,
        headers: Headers,
        *,
        path: str = "/",
        query: Text = b"",
        method: str = "GET",
        scopes: Sequence[str] = (),
        address: str | None = None,
        cost: int | None = None,
        peek: bool = False,
        reserve: int | None = None,
    ) -> Checked:
        """The same for threads."""
        request, request_id = self._read(headers, path, query, method, address)
        try:
            charge = Charge.of(cost, reserve, peek=peek)
            return Checked(*self._gate.check(request, scopes, charge), None)
        except Refused as refused:
            return _refused(refused, path, request_id)

    async def settle(self, reservation: str | None, cost: int) -> Settlement | None:
        """What `checked.user.reservation` came to. Raises NotSettled, TypeError, ValueError."""
        return await self._gate.settle(reservation, cost)

    def settle_blocking(self, reservation: str | None, cost: int) -> Settlement | None:
        """The same for threads."""
        return self._gate.settle_blocking(reservation, cost)

    async def open(self) -> None:
        """At the start of the application, if there is a place for it; otherwise the first check opens the source."""
        await self._gate.open()

    async def close(self) -> None:
        """At its end."""
        await self._gate.close()

    def _read(self, headers: Headers, path: str, query: Text, method: str, address: str | None) -> tuple[Request, str]:
        values: list[bytes] = []
        told: list[str] = []
        clients = self._gate.clients
        address_header = b"" if clients is None else clients.header.encode()
        request_id, names = None, set()
        given = headers.items() if hasattr(headers, "items") else headers
        for name, value in cast("Iterable[tuple[Text, Text]]", given):
            low = _bytes_of(name).lower()
            names.add(low)
            if low == self._gate.header.name:
                values.extend(self._gate.split_joined(_bytes_of(value)))
            elif low == b"x-request-id":
                request_id = _bytes_of(value).decode("latin-1")
            elif low == address_header:
                told.append(_bytes_of(value).decode("latin-1"))
        is_preflight = method == "OPTIONS" and names >= {b"origin", b"access-control-request-method"}
        find_address: FindAddress | None = None
        if clients is not None:
            find_address = partial(clients.find, address or "", told)
        elif address is not None:
            find_address = partial(parse_address, plain(address))
        return Request(path, values, _bytes_of(query), is_preflight, find_address), request_id_of_text(request_id)


def _refused(refused: Refused, path: str, request_id: str) -> Checked:
    headers, body = render(refused.problem, path, request_id)
    refusal = Refusal(str(refused.code), refused.problem.status, headers, body)
    return Checked(Anonymous(str(refused.code)), NO_CREDENTIAL, refusal)


def _bytes_of(text: Text) -> bytes:
    # No key has anything but ASCII, so it does not matter which bytes become of the rest; nothing is replaced by ASCII.
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
