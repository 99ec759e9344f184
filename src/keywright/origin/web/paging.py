"""Owns the pages of lists. Two kinds, by how a list goes on from one page to the next:

Offset paging counts rows from the start (`?page=3`): for lists that are short enough for that. Keyset paging goes on
from the last row that was shown (`?older=4711`): for consumers, of which there may be a million, and where a page costs
the same however far down the list it is. Rows are numbered in the order of their creation, newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from keywright.domain.paging import Page
from keywright.origin.web.request import PageRequest

MAX_PAGE = 1_000_000

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class PageLinks:
    """`words` say which part of the list it is; the addresses are empty where there is no such page."""

    words: str
    newer: str = ""
    older: str = ""


def offset_page(request: PageRequest, size: int) -> Page:
    """The part of the list that the query asks for by its number, from 1."""
    wanted = request.query("page")
    number = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 8 else 1
    return Page(size, (min(max(number, 1), MAX_PAGE) - 1) * size)


def offset_links(request: PageRequest, page: Page, total: int) -> PageLinks:
    """The way to the pages beside this one."""
    number = page.offset // page.limit + 1
    first, last = min(page.offset + 1, total), min(page.offset + page.limit, total)
    words = f"{first:,} to {last:,} of {total:,}" if total > page.limit else f"{total:,} in all"
    return PageLinks(
        words,
        with_query(request, page=str(number - 1)) if number > 1 else "",
        with_query(request, page=str(number + 1)) if last < total else "",
    )


@dataclass(frozen=True, slots=True)
class KeysetPosition:
    """Where a page begins, as the query tells: older or newer than the row of this number, or at the newest."""

    older_than: int | None
    newer_than: int | None


def keyset_position(request: PageRequest) -> KeysetPosition:
    return KeysetPosition(_row_number(request.query("older")), _row_number(request.query("newer")))


def keyset_page(
    request: PageRequest,
    found: Sequence[Row],
    position: KeysetPosition,
    *,
    size: int,
    number_of: Callable[[Row], int],
    words: str,
) -> tuple[Sequence[Row], PageLinks]:
    """One page of the rows that were found, which may be one more than fit: on the side that the reader moves to."""
    is_more = len(found) > size
    is_backwards = position.newer_than is not None
    shown = (found[1:] if is_backwards else found[:-1]) if is_more else found
    has_newer = is_more if is_backwards else position.older_than is not None
    has_older = True if is_backwards else is_more
    newer = older = ""
    if shown and has_newer:
        newer = with_query(request, newer=str(number_of(shown[0])), older="")
    if shown and has_older:
        older = with_query(request, older=str(number_of(shown[-1])), newer="")
    return shown, PageLinks(words, newer, older)


def with_query(request: PageRequest, **changes: str) -> str:
    """This address with some parameters changed; an empty one is left out."""
    kept = {name: value for name, value in request.http_request.query_params.items() if name not in changes}
    return "?" + urlencode({**kept, **{name: value for name, value in changes.items() if value}})


def _row_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
