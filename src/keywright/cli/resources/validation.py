"""Owns `keywright validate`: what an edge says of one key now, without using it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, list_of, plain, text_of, time_of
from keywright.cli.printing import show_one
from keywright.cli.prompts import read_secret
from keywright.cli.shared_options import DEFAULT_URL, connect, example

EXAMPLES = example(
    "keywright validate < key.txt",
    "keywright validate --scope orders:read --ip 192.0.2.7    # asks for the key, without echo",
)


def _of(*path: str) -> Any:
    """A member of a member, "" where there is none."""

    def read(row: Row) -> str:
        value: Any = row
        for name in path[:-1]:
            value = value.get(name) or {}
        return text_of(path[-1])(value)

    return read


def _limits(row: Row) -> str:
    limits = row.get("limits")
    told = limits if isinstance(limits, list) else []
    return plain(", ".join(f"{one.get('name')}: {one.get('remaining')} of {one.get('limit')} left" for one in told))


_COLUMNS = (
    Column("VERDICT", text_of("code")),
    Column("CONSUMER", _of("consumer", "name")),
    Column("KEY", _of("key", "id")),
    Column("EXPIRES", lambda row: time_of("expiresOn")(row.get("key") or {})),
    Column("SCOPES", list_of("scopes")),
    Column("LIMITS", _limits),
)


def validate_key(
    *,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="What the key must be good for; may be repeated.")
    ] = None,
    ip: Annotated[str | None, typer.Option("--ip", help="The address of the client that shows it.")] = None,
    cost: Annotated[int | None, typer.Option("--cost", help="Units of quotas that would be taken.")] = None,
    bucket: shared_options.Bucket,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
) -> None:
    """Ask whether a key is good, as a gateway would, and take nothing: it is no use of the key.

    The key is read from standard input, or asked for: arguments are kept in the
    shell's history. The address may be an edge's.
    Exit code: 0 for a key that is good, 1 for one that is refused.
    """
    question = {"key": read_secret("Key"), "scopes": scope or [], "ip": ip, "cost": cost, "peek": True}
    with connect(url, None) as api:
        answer = api.validate(bucket, question)
    show_one(answer, _COLUMNS, as_json=as_json)
    raise typer.Exit(0 if answer.value.get("valid") is True else 1)
