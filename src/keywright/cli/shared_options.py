"""Owns the options that commands share, and opening the API that they name. parsing.py reads what values mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keywright.cli.api_client import Api

DEFAULT_URL = "http://127.0.0.1:8080"
_CONNECTION = "Connection"


@dataclass(frozen=True, slots=True)
class ListRange:
    """Which part of a list: `limit` rows from `offset`, or everything from `offset`."""

    limit: int | None = None
    offset: int = 0
    is_everything: bool = False


def example(*lines: str) -> str:
    """The epilog that shows how a command is used, one line for each example."""
    return "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"$ {line}" for line in lines)])


def connect(url: str, account: str | None) -> "Api":
    from keywright.cli.api_client import Api  # `keywright serve` starts faster without an HTTP client.

    return Api(url, account)


Url = Annotated[
    str,
    typer.Option("--url", envvar="KEYWRIGHT_URL", help="Address of the Keywright origin.", rich_help_panel=_CONNECTION),
]
Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        envvar="KEYWRIGHT_ACCOUNT",
        help="Account; without it, the account of the management key.",
        rich_help_panel=_CONNECTION,
    ),
]
Bucket = Annotated[
    str,
    typer.Option(
        "--bucket", envvar="KEYWRIGHT_BUCKET", help="Bucket of the consumer or plan.", rich_help_panel=_CONNECTION
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")]
Show = Annotated[bool, typer.Option("--show", help="Show whole keys instead of their last characters.")]
Description = Annotated[str | None, typer.Option("--description", help="Text for people.")]
NewDescription = Annotated[str | None, typer.Option("--description", help="Text for people; '' removes it.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Tag; may be repeated.")]
NewTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="Tag; may be repeated; together they replace all tags."),
]
NoTags = Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")]
_POWERS = "What it may do"
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="What it is good for, such as orders:read; repeatable.", rich_help_panel=_POWERS),
]
NewScopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", help="What it is good for; repeatable; together they replace all.", rich_help_panel=_POWERS
    ),
]
NoScopes = Annotated[bool, typer.Option("--no-scopes", help="Good for no scope at all.", rich_help_panel=_POWERS)]
InheritScopes = Annotated[
    bool,
    typer.Option("--inherit-scopes", help="What is granted above it: no scopes of its own.", rich_help_panel=_POWERS),
]
AllowedIps = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-ip", metavar="CIDR", help="Address or network to be used from; repeatable.", rich_help_panel=_POWERS
    ),
]
AnyIp = Annotated[bool, typer.Option("--any-ip", help="To be used from everywhere again.", rich_help_panel=_POWERS)]
Plan = Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="Name of its plan.", rich_help_panel=_POWERS)]
NoPlan = Annotated[bool, typer.Option("--no-plan", help="Take its plan away.", rich_help_panel=_POWERS)]
RateLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--rate-limit",
        metavar="NAME=LIMIT/SECONDS[/edge]",
        help="How often it may be used, such as per-minute=600/60; repeatable.",
        rich_help_panel=_POWERS,
    ),
]
NewRateLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--rate-limit",
        metavar="NAME=LIMIT/SECONDS[/edge]",
        help="How often it may be used; repeatable; together they replace all.",
        rich_help_panel=_POWERS,
    ),
]
NoRateLimits = Annotated[bool, typer.Option("--no-rate-limits", help="No rate limit at all.", rich_help_panel=_POWERS)]
InheritRateLimits = Annotated[
    bool,
    typer.Option(
        "--inherit-rate-limits", help="Those of its plan: no rate limits of its own.", rich_help_panel=_POWERS
    ),
]
Quotas = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="NAME=UNITS/PERIOD[/ZONE]",
        help="How much it may use in a period, such as calls=100000/month; repeatable; together they replace all.",
        rich_help_panel=_POWERS,
    ),
]
NoQuotas = Annotated[bool, typer.Option("--no-quotas", help="No quota at all.", rich_help_panel=_POWERS)]
InheritQuotas = Annotated[
    bool,
    typer.Option("--inherit-quotas", help="Those of its plan: no quotas of its own.", rich_help_panel=_POWERS),
]
Disabled = Annotated[bool, typer.Option("--disable", help="Make it switched off.", rich_help_panel=_POWERS)]
Enabled = Annotated[
    bool | None,
    typer.Option("--enable/--disable", help="Switch it on, or off.", rich_help_panel=_POWERS),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="How many at most; up to 1000 at a time.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="How many of the newest to skip.")]
All = Annotated[bool, typer.Option("--all", help="List all, in as many requests as that takes.")]
BucketName = Annotated[str, typer.Argument(metavar="BUCKET", help="Name of the bucket.", show_default=False)]
ConsumerName = Annotated[str, typer.Argument(metavar="CONSUMER", help="Name of the consumer.", show_default=False)]
PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="Name of the plan.", show_default=False)]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key: key_...", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Directory of the database, the replica and the key files; ./keywright-data by default.",
        envvar="KEYWRIGHT_DATA_DIR",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        # `ps` shows arguments to everybody.
        help="PostgreSQL as postgresql://..., instead of SQLite. Put a URL with a password into the variable.",
        envvar="KEYWRIGHT_DATABASE_URL",
    ),
]
