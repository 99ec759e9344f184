"""Owns what a noun declares to a portal: its routes, as rows of a table, and how often somebody may do something.

Each noun's admin.py and portal.py end in a table `ROUTES`; admin_portal.py and developer_portal.py put them together. A
table says all that the router has to know of a page, so that handlers are plain functions that tests can call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from fastapi import Request, Response

from keywright.origin.pipeline.rate_limit import RateLimiter

Counts_co = TypeVar("Counts_co", covariant=True)

if TYPE_CHECKING:
    from keywright.origin.pipeline.body import Admission
    from keywright.origin.web.request import PageRequest
    from keywright.origin.web.router import PageRouter

    Handler = Callable[[PageRequest], Awaitable[Response]]
    RawHandler = Callable[[PageRouter, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class GetRoute:
    """A page, below the portal's prefix. It needs somebody who is signed in, unless it `is_open`."""

    path: str
    handler: Handler
    _: KW_ONLY
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class PostRoute:
    """What a form is sent to, below the portal's prefix."""

    path: str
    handler: Handler
    _: KW_ONLY
    form: Handler | None
    """Shows the page that the form is on: again, if what was sent is refused. None: a page that tells why."""
    action: str | None = None
    """Its name in the audit log; None for what changes nothing."""
    conflict: str | None = None
    """The field whose value may be taken: a 409 is told beside it."""
    is_open: bool = False
    """Whether strangers may send it."""
    is_once: bool = True
    """Whether it is done once, however often the same form is sent."""
    admission: Admission | None = None
    """Who may send it, where the portal's own admission does not say all of it."""


@dataclass(frozen=True, slots=True)
class RawRoute:
    """A page that opens transactions of its own, since it waits for others meanwhile. Anybody may ask for it."""

    path: str
    handler: RawHandler
    _: KW_ONLY
    is_absolute: bool = False
    """Whether the path is a whole one, rather than below the portal's prefix."""


PageRoute = GetRoute | PostRoute | RawRoute


class Limit(Protocol[Counts_co]):
    """Something that is limited in a way of its own; `new` begins to count. Each is one object, and the key to it."""

    def new(self) -> Counts_co: ...


@dataclass(frozen=True, slots=True, eq=False)
class RateLimit:
    """How often one name may do something in one process: `burst` times at once, and `per_second` in the long run.

    Names are told apart by what the handler counts: client addresses, actors, mailboxes. The counts are the router's.
    """

    per_second: float
    burst: int
    message: str
    """What somebody is told who is over the limit, as a sentence."""

    def new(self) -> RateLimiter:
        return RateLimiter(self.per_second, self.burst)
