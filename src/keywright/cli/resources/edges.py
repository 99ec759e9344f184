"""Owns `keywright edges`."""

from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, plain, text_of, time_of
from keywright.cli.printing import show_done, show_list
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Replicas that validate keys, and how current each is.",
    epilog=example("keywright edges list"),
)


def _state(row: Row) -> str:
    # The last state that an edge reported says nothing of one that reports no more.
    if row.get("refusing"):
        return "refusing"
    return text_of("state")(row) if row.get("connected") else "disconnected"


def _lag(row: Row) -> str:
    lag = row.get("lagSeconds")
    return f"{lag:.1f} s" if isinstance(lag, int | float) else "unknown"


def _clock(row: Row) -> str:
    offset = row.get("clockOffsetSeconds")
    return f"{offset:+.1f} s" if isinstance(offset, int | float) else "unknown"


COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("REGION", text_of("region")),
    Column("STATE", _state),
    Column("SINCE", time_of("since")),
    Column("REVISION", text_of("revision")),
    Column("LAG", _lag),
    Column("CLOCK", _clock),
    Column("VERSION", text_of("version")),
    Column("LAST SEEN", time_of("seenOn")),
    Column("ID", text_of("id"), is_whole=True),
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


@app.command("retire", epilog=example("keywright edges retire wq3v0bT1Hq2fJ7dYk9ZcXw"))
def retire_edge(
    edge_id: Annotated[
        str, typer.Argument(metavar="EDGE_ID", help="Id of the edge, as `edges list` shows it.", show_default=False)
    ],
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Say that an edge is gone for good: no write waits for it any more. Stop it first; one that runs is back soon."""
    confirm(
        f"Retire edge {plain(edge_id)}? It must not run any more: nobody will wait for it.",
        is_sure=yes,
        refused="nothing was changed",
        purpose="to retire it",
    )
    with connect(url, account) as api:
        answer = api.delete("edges", edge_id)
    show_done(answer, f"Retired edge {edge_id}.", as_json=as_json)
