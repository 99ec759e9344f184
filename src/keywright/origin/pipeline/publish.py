"""Owns the last steps of a write: its revision is published in this process, and told to the caller.

Where the caller asked for it, the answer waits until edges have applied the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request, Response

from keywright.origin.auth.actors import Actor
from keywright.origin.edges.reach import Touched
from keywright.origin.edges.registry import Edges
from keywright.origin.edges.scopes import DEPLOYMENT
from keywright.origin.edges.store import Heard
from keywright.origin.pipeline.services import Services

MAX_COUNT = 1000
MAX_MILLIS = 30_000
DEFAULT_MILLIS = 2000
SHOWN_NAMES = 50
"""More would not fit the header of an answer; `GET /v1/accounts/{account}/edges` has all of them."""


class NotAppliedHere(Exception):
    """A committed change could not be brought to this machine's replica."""


async def publish(services: Services, revision: int) -> None:
    """Tell this process of a commit: readers of the feed, then its own replica. Raises NotAppliedHere."""
    for tell in services.on_commit:
        await tell(revision)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a caller waits for: that `count` edges, or all that may answer (None), have applied the change."""

    count: int | None
    millis: int


def ask_to_wait(request: Request, wait: Wait) -> None:
    """Have the answer to this write wait, after it was committed."""
    request.state.wait = wait


def find_wait(request: Request) -> Wait | None:
    wait: Wait | None = getattr(request.state, "wait", None)
    return wait


async def acknowledge(
    response: Response, edges: Edges, revision: int, wait: Wait | None, actor: Actor, touched: Touched
) -> None:
    """Put the revision into the answer, and wait for the edges if that was asked for. No transaction is open."""
    response.headers["Keywright-Revision"] = str(revision)
    if wait is None:
        return
    account_id = touched.account_id
    outcome = await edges.wait(revision, wait.count, wait.millis / 1000, touched)
    response.headers["Keywright-Applied"] = f"{outcome.applied}/{outcome.wanted}"
    if not outcome.is_reached:
        names = _names_of(outcome.pending, actor, account_id)
        if not outcome.is_known:
            names.append("(unknown: what other origins heard was not learnt in time)")
        response.headers["Keywright-Pending"] = ", ".join(names)
    if outcome.refusing:
        response.headers["Keywright-Refusing"] = ", ".join(_names_of(outcome.refusing, actor, account_id))


def _names_of(edges: Sequence[Heard], actor: Actor, account_id: str | None) -> list[str]:
    own = {DEPLOYMENT, actor.grantee.account_id, account_id}
    names = sorted(one.report.name for one in edges if actor.grantee.is_root or one.account_id in own)
    shown = names[:SHOWN_NAMES]
    # No edge can have a name with a parenthesis.
    if len(names) > len(shown):
        shown.append(f"({len(names) - len(shown)} more)")
    if len(names) < len(edges):
        shown.append(f"({len(edges) - len(names)} of other accounts)")
    return shown
