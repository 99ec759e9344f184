"""Owns the query string and the headers that say what a caller wants: pages, tags, preferences."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

from fastapi import Depends, Request

from keywright.domain.paging import Page
from keywright.origin.pipeline.respond import invalid

MAX_LIMIT = 1000
MAX_OFFSET = 2**53 - 1
MAX_TAGS = 100
"""No deployment can allow more tags than this, and no query can ask for more: each is a condition in SQL."""

TAG = "tag"
KEY_TAG = "key-tag"


def check_query(request: Request, parameters: Collection[str]) -> None:
    """Raises BadRequest where one of these parameters can't be understood in one way; others are ignored."""
    errors = []
    seen: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in parameters:
            continue
        if "\0" in value:
            errors.append({"field": f"query.{name}", "message": "holds a NUL character"})
        elif seen.setdefault(name, value) != value:
            errors.append({"field": f"query.{name}", "message": "is given twice with different values"})
    if errors:
        raise invalid(errors)


def page_of(limit: int, offset: int) -> Page:
    """The part of a list that was asked for; a larger limit is cut."""
    return Page(min(limit, MAX_LIMIT), offset)


async def tags_of(request: Request) -> Mapping[str, str]:
    """The tags that `tag.<name>=<value>` query parameters ask for. Raises BadRequest."""
    return _tags_of(request, TAG)


async def key_tags_of(request: Request) -> Mapping[str, str]:
    """The same for `key-tag.<name>=<value>`: of keys, where `tag` is of their consumer."""
    return _tags_of(request, KEY_TAG)


def _tags_of(request: Request, asked: str) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for parameter, value in request.query_params.multi_items():
        message = None
        if parameter == asked:
            # It names no tag. Passed over, it would be a guard that lets everything through.
            message = f"must be written {asked}.<name>=<value>"
        elif parameter.startswith(f"{asked}."):
            name = parameter.removeprefix(f"{asked}.")
            if not name or "\0" in name or "\0" in value:
                message = f"must be {asked}.<name>=<value>, both of them text without NUL characters"
            elif tags.setdefault(name, value) != value:
                message = "is given twice with different values"
            elif len(tags) > MAX_TAGS:
                message = f"is one tag too many; at most {MAX_TAGS} can be asked for"
        if message:
            raise invalid([{"field": f"query.{parameter}", "message": message}])
    return tags


WantedTags = Annotated[Mapping[str, str], Depends(tags_of)]
WantedKeyTags = Annotated[Mapping[str, str], Depends(key_tags_of)]


def wants_representation(request: Request) -> bool:
    """Whether the caller prefers the made thing to an empty answer (RFC 7240 section 4.2)."""
    preferences = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(part.split(";")[0].replace(" ", "") == "return=representation" for part in preferences)
