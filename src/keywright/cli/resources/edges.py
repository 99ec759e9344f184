"""Owns `keywright edges`."""

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, text_of, time_of
from keywright.cli.printing import show_list
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Replicas that validate keys, and how current each is.",
    epilog=example("keywright edges list"),
)


def _state(row: Row) -> str:
    # The last state that an edge reported says nothing of one that reports no more.
    return text_of("state")(row) if row.get("connected") else "disconnected"


def _lag(row: Row) -> str:
    lag = row.get("lagSeconds")
    return f"{lag:.1f} s" if isinstance(lag, int | float) else "unknown"


COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("REGION", text_of("region")),
    Column("STATE", _state),
    Column("SINCE", time_of("since")),
    Column("REVISION", text_of("revision")),
    Column("LAG", _lag),
    Column("VERSION", text_of("version")),
    Column("LAST SEEN", time_of("seenOn")),
)


@app.command("list", epilog=example("keywright edges list"))
def list_edges(
    *,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the edges of the account, by name."""
    with connect(url, account) as api:
        answer = api.get_list("edges", within=ListRange(limit, offset, everything))
    show_list(answer, COLUMNS, as_json=as_json, empty="No edges yet.")
