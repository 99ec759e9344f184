"""Owns what the composition root hands to every request of the origin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from keywright.http.client_address import ClientAddresses
from keywright.origin.auth.end_users import EndUsers
from keywright.origin.auth.sessions import Team
from keywright.origin.db.transaction import Database
from keywright.origin.edges.registry import Edges
from keywright.origin.limits.rules import Shares
from keywright.origin.mail import Mailer
from keywright.origin.pipeline.let_in import LetIn
from keywright.origin.pipeline.rate_limit import RateLimiter
from keywright.origin.pipeline.request_counts import RequestCounts
from keywright.origin.pipeline.unit_of_work import Dependencies
from keywright.origin.pipeline.wrong_keys import WrongKeys
from keywright.origin.usage.intake.rules import Intake
from keywright.runtime.disk import Disk

OnCommit = Callable[[int], Awaitable[None]]
"""Told the newest revision after a commit. May raise NotAppliedHere."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the origin works with. `on_commit` are told of each commit of changes, one after the other."""

    database: Database
    dependencies: Dependencies
    on_commit: tuple[OnCommit, ...]
    management_rate: RateLimiter
    refusal_rate: RateLimiter
    """How many refused attempts of strangers are written to an account's audit log in a second."""
    edges: Edges
    shares: Shares
    """Of global rate limits, which edges ask for."""
    intake: Intake
    """Of usage, which edges deliver."""
    end_users: EndUsers | None = None
    """The identity provider of the end users; None where the deployment has none."""
    team: Team | None = None
    """The provider's own people; None where they come in with management keys alone."""
    end_user_rate: RateLimiter = field(default_factory=lambda: RateLimiter(0))
    cors_origins: tuple[str, ...] = ()
    """Which web pages may call the Self-serve API."""
    mailer: Mailer | None = None
    client_addresses: ClientAddresses = field(default_factory=ClientAddresses)
    let_in: LetIn = field(default_factory=LetIn)
    wrong_keys: WrongKeys = field(default_factory=lambda: WrongKeys(0))
    request_counts: RequestCounts = field(default_factory=RequestCounts)
    disk: Disk | None = None
    """The room for the record and the replica; None where nobody looks after it."""
    feed_streams_of_token: int = 250
    """How many streams of changes may be open at once with one token."""
    public_url: str = ""
    """Where browsers reach this service; links in mails lead there, whatever host a request names."""
