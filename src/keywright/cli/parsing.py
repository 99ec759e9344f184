"""Owns what the user gives: how the values of options are read, secrets from standard input, and the user's consent."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from keywright.cli.printing import CommandFailed
from keywright.domain import models

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `limit` rows from `offset`, or everything from `offset`."""

    limit: int | None = None
    offset: int = 0
    is_everything: bool = False


def parse_expiry(text: str, now: datetime | None = None) -> str | None:
    """The time that `--expires-on` means, as the API writes it; None for `never`. Raises BadParameter.

    `+7d` counts from `now` (the clock, outside of tests). A time without a zone is UTC.
    """
    if text == "never":
        return None
    try:
        if text.startswith("+"):
            amount, unit = text[1:-1], _UNITS[text[-1]]
            if not (amount.isascii() and amount.isdigit()):
                raise ValueError
            moment = (now or datetime.now(UTC)) + timedelta(**{unit: int(amount)})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return models.to_iso(moment)
    except (ValueError, KeyError, OverflowError):
        wanted = "a time such as 2027-01-31T12:00:00Z, a date, a span such as +30m, +12h, +7d or +2w, or `never`"
        raise typer.BadParameter(f"not {wanted}") from None


def parse_tags(pairs: list[str] | None) -> dict[str, str]:
    """`name=value` pairs as an object. Raises BadParameter."""
    tags = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter("a tag is given as NAME=VALUE", param_hint="--tag")
        tags[name] = value
    return tags


def parse_self_serve(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs with true, false or whole numbers. Raises BadParameter."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        is_number = value.isascii() and value.isdecimal()
        if not (name and equals) or not (value in {"true", "false"} or is_number):
            raise typer.BadParameter("given as NAME=VALUE, such as createConsumers=true", param_hint="--self-serve")
        settings[name] = json.loads(value) if not is_number else int(value)
    return settings


def parse_metadata(text: str) -> dict[str, Any]:
    """A JSON object. Raises BadParameter."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter("""not a JSON object such as '{"plan": "gold"}'""", param_hint="--metadata")
    return value


def read_secret(prompt: str) -> str:
    """One secret from standard input, without its line end; on a terminal it is asked for and not shown."""
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, err=True))
    # What is no UTF-8 is no key either; it must not become a traceback that quotes it.
    text = sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if not text:
        raise CommandFailed("nothing came on standard input")
    return text


def confirm(question: str, *, is_sure: bool) -> None:
    """Go on only if the user means it. Without a terminal to ask at, only `--yes` says so."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to confirm at; say --yes to delete")
    if not typer.confirm(question, err=True):
        raise CommandFailed("nothing was deleted")


def given(**fields: Any) -> dict[str, Any]:
    """The body of a request: the fields that were given, which are those that aren't None."""
    return {name: value for name, value in fields.items() if value is not None}


def changes(
    description: str | None, tags: list[str] | None, *, no_tags: bool, metadata: str | None = None, **more: Any
) -> dict[str, Any]:
    """The body of an update. An empty description takes the old one away. Raises BadParameter if nothing changes."""
    if tags and no_tags:
        raise typer.BadParameter("not together with --tag", param_hint="--no-tags")
    body = given(
        description=description,
        tags=parse_tags(tags) if tags or no_tags else None,
        metadata=None if metadata is None else parse_metadata(metadata),
        **more,
    )
    require_changes(body)
    if description == "":
        body["description"] = None
    return body


def require_changes(body: dict[str, Any]) -> None:
    """Refuse an update that changes nothing: it is a forgotten option."""
    if not body:
        raise typer.BadParameter("say what to change, such as --description 'New text'", param_hint="update")
