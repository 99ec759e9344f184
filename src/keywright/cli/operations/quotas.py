"""Owns `keywright quotas`: what is left of quotas, over the API; and reopening them, on the machine of the database."""

import json
import secrets
from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, text_of, time_of
from keywright.cli.failures import start_errors_as_failures
from keywright.cli.printing import Answer, show_done, show_list, show_one
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DEFAULT_URL, DatabaseUrl, DataDir, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Quotas: what is left of them, adding to one, and having them lent again after the record was restored.",
    epilog=example("keywright quotas list acme", "keywright quotas top-up acme calls 5000"),
)

COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("LIMIT", text_of("limit")),
    Column("PERIOD", text_of("period")),
    Column("REMAINING", text_of("remaining")),
    Column("SPENT", text_of("spent")),
    Column("LENT", text_of("lent")),
    Column("UNACCOUNTED", text_of("unaccounted"), in_list=False),
    Column("ADDED", text_of("added"), in_list=False),
    Column("OVERSPENT", text_of("overspent"), in_list=False),
    Column("ENDS", time_of("endsOn")),
)


_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Reopen without confirmation.")]


@app.command("reopen", epilog=example("keywright quotas reopen --data-dir /var/lib/keywright"))
def reopen(*, is_sure: _Yes = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Lend what runs again, after the record went back to an earlier state.

    It was restored, or failed over, and does not know what edges were lent
    meanwhile: until the periods end that had begun, no edge is lent more. This
    ends that at once, and what was spent in what was lost is not counted.
    """
    question = "Lend again, whatever was spent in what the record has lost?"
    confirm(question, is_sure=is_sure, refused="nothing was changed", purpose="to lend again")
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        names = commands.reopen_quotas(OriginSettings.load(data_dir=data_dir, database_url=database_url))
    told = f"Quotas are lent again in {', '.join(names)}." if names else "Quotas are lent in every bucket already."
    show_done(Answer(json.dumps({"buckets": names}), {"buckets": names}), told, as_json=False)


@app.command("list", epilog=example("keywright quotas list acme"))
def list_quotas(
    name: shared_options.ConsumerName,
    *,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show what is left of a consumer's quotas."""
    with connect(url, account) as api:
        answer = api.get("key-buckets", bucket, "consumers", name, "quotas")
    show_list(answer, COLUMNS, as_json=as_json, empty="The consumer has no quotas, and its plan has none.")


@app.command("top-up", epilog=example("keywright quotas top-up acme calls 5000"))
def top_up_quota(
    name: shared_options.ConsumerName,
    quota: Annotated[str, typer.Argument(metavar="QUOTA", help="Name of the quota.", show_default=False)],
    units: Annotated[int, typer.Argument(metavar="UNITS", help="How many units.", min=1, show_default=False)],
    *,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="What is sent again with it is done once.")
    ] = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Add units to a quota's running period, for good."""
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    with connect(url, account) as api:
        answer = api.post(
            "key-buckets", bucket, "consumers", name, "quotas", quota, "top-ups", body={"units": units}, headers=headers
        )
    show_one(answer, COLUMNS, as_json=as_json)
