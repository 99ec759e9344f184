"""Owns `keywright managers`: the end users who may manage a consumer's keys in the portal."""

from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, plain, text_of, time_of
from keywright.cli.parsing import fields_given
from keywright.cli.printing import show_done, show_list, show_one
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="End users who may manage a consumer's keys by themselves.",
    epilog=example("keywright managers add acme jo@example.com"),
)

COLUMNS = (
    Column("ID", text_of("id"), is_whole=True),
    Column("EMAIL", text_of("email"), is_whole=True),
    Column("SUB", lambda row: text_of("sub")(row) or "(invited)"),
    Column("ADDED", time_of("createdOn")),
)


@app.command("list", epilog=example("keywright managers list acme"))
def list_managers(
    consumer: shared_options.ConsumerName,
    *,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the managers of a consumer and the invites."""
    with connect(url, account) as api:
        answer = api.get_list(
            *("key-buckets", bucket, "consumers", consumer, "managers"),
            within=ListRange(limit, offset, everything),
            params={"include-manager-invites": "true"},
        )
    empty = f"{consumer} has no managers yet. Invite one: keywright managers add {consumer} jo@example.com"
    show_list(answer, COLUMNS, as_json=as_json, empty=empty)


@app.command("add", epilog=example("keywright managers add acme jo@example.com"))
@app.command("create", hidden=True, epilog=example("keywright managers create acme jo@example.com"))
def add_manager(
    consumer: shared_options.ConsumerName,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the user.", show_default=False)],
    *,
    sub: Annotated[
        str | None,
        typer.Option("--sub", help="Subject of the user at the identity provider; without it the user is invited."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="The identity provider of --sub; the configured one, if left out.")
    ] = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Let a user manage the keys of a consumer (also as `create`).

    Without --sub this is an invite, accepted when a user with that e-mail address signs in.
    """
    with connect(url, account) as api:
        body = fields_given(email=email, sub=sub, issuer=issuer)
        answer = api.post("key-buckets", bucket, "consumers", consumer, "managers", body=body)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("delete", epilog=example("keywright managers delete acme eusr_iHGzKWRuVvHJSSKJe1KIMNyU"))
def delete_manager(
    consumer: shared_options.ConsumerName,
    manager_id: Annotated[
        str, typer.Argument(metavar="MANAGER_ID", help="Id of the manager: eusr_...", show_default=False)
    ],
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Remove a manager from a consumer; the keys stay."""
    confirm(f"Remove manager {plain(manager_id)} from consumer {plain(consumer)}?", is_sure=yes)
    with connect(url, account) as api:
        answer = api.delete("key-buckets", bucket, "consumers", consumer, "managers", manager_id)
    show_done(answer, f"Removed manager {manager_id} from consumer {consumer}.", as_json=as_json)
