"""Owns the options that commands share, and opening the API that they name. What values mean is read in input.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keywright.cli.api_client import Api

DEFAULT_URL = "http://127.0.0.1:8080"
_WHERE = "Where"


def example(*lines: str) -> str:
    """The epilog that shows how a command is used, one line for each example."""
    return "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"$ {line}" for line in lines)])


def connect(url: str, account: str | None) -> "Api":
    from keywright.cli.api_client import Api  # `keywright serve` starts faster without an HTTP client.

    return Api(url, account)


Url = Annotated[
    str,
    typer.Option("--url", envvar="KEYWRIGHT_URL", help="Address of the Keywright origin.", rich_help_panel=_WHERE),
]
Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        envvar="KEYWRIGHT_ACCOUNT",
        help="Account; without it, the account of the management key.",
        rich_help_panel=_WHERE,
    ),
]
Bucket = Annotated[
    str,
    typer.Option("--bucket", envvar="KEYWRIGHT_BUCKET", help="Bucket of the consumer.", rich_help_panel=_WHERE),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
Show = Annotated[bool, typer.Option("--show", help="Show whole keys instead of their last characters.")]
Description = Annotated[str | None, typer.Option("--description", help="Text for people.")]
NewDescription = Annotated[str | None, typer.Option("--description", help="Text for people; '' takes it away.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Tag; may be repeated.")]
NewTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="Tag; may be repeated; together they replace all tags."),
]
NoTags = Annotated[bool, typer.Option("--no-tags", help="Take all tags away.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="How many at most; 1000 is the most at a time.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="How many of the newest to leave out.")]
All = Annotated[bool, typer.Option("--all", help="All, however many requests that takes.")]
BucketName = Annotated[str, typer.Argument(metavar="BUCKET", help="Name of the bucket.", show_default=False)]
ConsumerName = Annotated[str, typer.Argument(metavar="CONSUMER", help="Name of the consumer.", show_default=False)]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key: key_...", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="KEYWRIGHT_DATA_DIR",
        metavar="DIR",
        help="Directory of the database, the replica and the key files; ./keywright-data by default.",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="KEYWRIGHT_DATABASE_URL",
        metavar="URL",
        # `ps` shows arguments to everybody.
        help="PostgreSQL as postgresql://..., instead of SQLite. With a password in it, better use the variable.",
    ),
]
