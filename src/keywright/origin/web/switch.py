"""Owns the buttons that disable and enable a thing, which are alike wherever a portal has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keywright.origin.web.routes import PostRoute

if TYPE_CHECKING:
    from fastapi import Response

    from keywright.origin.pipeline.body import Admission
    from keywright.origin.web.request import PageRequest


@dataclass(frozen=True, slots=True)
class Switch:
    """What is switched off and on again, below its own path."""

    what: str
    """As a sentence begins: Owner key."""
    works_again: str
    """What is told of it when it is off: a sentence, for it can be switched on again."""
    turn: Callable[[PageRequest, bool], Awaitable[None]]
    url: Callable[[PageRequest], str]
    """The page that has the buttons, where both lead back."""

    async def disable(self, request: PageRequest) -> Response:
        await self.turn(request, False)
        request.waits_for_edges = True
        return request.redirect(self.url(request), f"{self.what} disabled. {self.works_again}")

    async def enable(self, request: PageRequest) -> Response:
        await self.turn(request, True)
        return request.redirect(self.url(request), f"{self.what} enabled.")

    def routes(self, path: str, action: str, admission: Admission | None = None) -> tuple[PostRoute, PostRoute]:
        return (
            PostRoute(path + "/disable", self.disable, form=None, action=action, is_once=False, admission=admission),
            PostRoute(path + "/enable", self.enable, form=None, action=action, is_once=False, admission=admission),
        )
