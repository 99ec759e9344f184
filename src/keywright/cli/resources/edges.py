"""Owns `keywright edges`."""

import typer

from keywright.cli import shared_options
from keywright.cli.parsing import Page
from keywright.cli.printing import Column, Row, show_list, text_of, time_of
from keywright.cli.shared_options import DEFAULT_URL, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Replicas that validate keys, and how far each has got.",
    epilog=example("keywright edges list"),
)


def _state(row: Row) -> str:
    """What it said last tells nothing of an edge that is gone."""
    return text_of("state")(row) if row.get("connected") else "gone"


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
    Column("SEEN", time_of("seenOn")),
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
    """List the edges that follow the account, by name."""
    with connect(url, account) as api:
        answer = api.get_list("edges", page=Page(limit, offset, everything))
    show_list(answer, COLUMNS, as_json=as_json, empty="No edges.")
