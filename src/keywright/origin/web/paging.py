"""Owns the pages of lists that are counted by offset: few enough rows that their place does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from keywright.origin.pipeline.unit_of_work import Page
from keywright.origin.web.request import PageRequest

MAX_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class PageLinks:
    """`words` say which part of the list it is; the addresses are empty where there is no such page."""

    words: str
    newer: str = ""
    older: str = ""


def page_at(request: PageRequest, size: int) -> Page:
    """The part of the list that the query asks for by its number, from 1."""
    asked = request.query("page")
    number = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 8 else 1
    return Page(size, (min(max(number, 1), MAX_PAGE) - 1) * size)


def links(request: PageRequest, part: Page, total: int) -> PageLinks:
    """The way to the pages beside this one."""
    number = part.offset // part.limit + 1
    first, last = min(part.offset + 1, total), min(part.offset + part.limit, total)
    words = f"{first:,} to {last:,} of {total:,}" if total > part.limit else f"{total:,} in all"
    return PageLinks(
        words,
        with_query(request, page=str(number - 1)) if number > 1 else "",
        with_query(request, page=str(number + 1)) if last < total else "",
    )


def with_query(request: PageRequest, **changes: str) -> str:
    """This address with some parameters changed; an empty one is left out."""
    kept = {name: value for name, value in request.http_request.query_params.items() if name not in changes}
    return "?" + urlencode({**kept, **{name: value for name, value in changes.items() if value}})
